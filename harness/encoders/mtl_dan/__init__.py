"""MTL-DAN, the paper's face network: published, fused, and its files."""
