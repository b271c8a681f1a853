"""Features of clips: computed, stored, read and laid out in time."""
