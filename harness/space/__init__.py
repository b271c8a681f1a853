"""Search spaces, and what chooses and stops their trials."""
