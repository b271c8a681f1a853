"""A search at work."""
