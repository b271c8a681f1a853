"""The regression head: a sequence of frame features in, intensities out."""
