"""Frozen networks that turn frames into features: a file or folder for each kind."""
