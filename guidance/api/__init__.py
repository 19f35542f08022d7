"""Guidance for notebooks and loops of one's own: without a config and without folders. The names are those of `guidance`."""
