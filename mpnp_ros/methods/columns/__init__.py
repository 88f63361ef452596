"""What methods share whose modalities are columns in front of the text."""
