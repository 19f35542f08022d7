"""Attributions from the attention of a vision transformer.

A_l [heads, T, T] is what block l attends to, G_l the gradient of the logit by it. Each method gives a relevance of the patch
tokens at the depth that is asked for, from the blocks above that depth: a map of one value for each patch [M, h, w], which
losses and metrics enlarge like any other map. At the input all blocks take part.
"""
