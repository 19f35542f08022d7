"""Convolutional nets of the table."""
