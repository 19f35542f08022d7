"""Vision transformers with a class token, under torchvision's names of weights."""
