"""What comes in: clips, their frames and their labels."""
