"""Files of images and what may be wrong with them."""
