"""Image transforms that move boxes and segmentations with the pixels."""
