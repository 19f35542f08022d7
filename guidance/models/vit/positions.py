"""The places of patches: their cells in a grid, and their position embedding in a grid of another size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 224  # pixels a side of the images that the position embedding belongs to


def resized_positions(embedding: Tensor, side: int) -> Tensor:
    """A position embedding [1, 1 + n * n, D] for a grid of `side` x `side` patches; the class token's stays.

    Bicubic with aligned corners, as torchvision.models.vision_transformer.interpolate_embeddings.
    """
    own = _side(embedding)
    if own == side:
        return embedding
    grid = functional.interpolate(patch_cells(embedding), (side, side), mode="bicubic", align_corners=True)
    return torch.cat((embedding[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def patch_cells(tokens: Tensor) -> Tensor:
    """Tokens [M, 1 + h * h, D], or a gradient by them -> the cells of the patches [M, D, h, h]; the class token has none."""
    return torch.unflatten(tokens[:, 1:].transpose(1, 2), 2, (_side(tokens), _side(tokens)))


def _side(tokens: Tensor) -> int:
    return math.isqrt(tokens.shape[1] - 1)
