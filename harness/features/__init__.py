"""Per-frame features of clips, and the sequences made of them."""
