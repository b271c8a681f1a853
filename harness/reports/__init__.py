"""Writes the report of a study, one HTML file that needs no network. Imports no torch or ray."""
