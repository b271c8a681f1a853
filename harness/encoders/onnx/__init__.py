"""ONNX files as encoders: the file, its graph, its preprocessing, and the network that runs it."""
