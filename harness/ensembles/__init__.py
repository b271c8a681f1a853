"""Ensembles of stored predictions."""
