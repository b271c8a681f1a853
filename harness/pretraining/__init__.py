"""Training an MTL-DAN on annotated faces."""
