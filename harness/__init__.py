"""Search and ensembles for Emotional Reaction Intensity estimation."""

__version__ = "0.1.0"
