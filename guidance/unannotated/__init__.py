"""What maps tell of a folder of images that nobody has annotated."""
