"""A page on this machine to annotate images of one's own: the files it keeps, its order of images, its maps and its server."""
