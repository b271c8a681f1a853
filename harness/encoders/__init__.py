"""Frozen networks that turn frames or sound into features."""
