"""What turns sequences of features into intensities: heads, their training and their files."""
