"""Attributions that only look at what a net answers to changed images: superpixels, and captum's methods on them."""
