"""Layers that nets of several families share."""
