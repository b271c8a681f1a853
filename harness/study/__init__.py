"""What a study is and where it is kept; read without torch."""
