"""One trial: data and a configuration in, a model and its predictions out."""
