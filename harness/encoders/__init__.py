"""Frozen networks that turn frames or sound into features: a file or folder for each kind."""
