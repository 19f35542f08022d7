"""Parts of every image that seldom hold what a class is named after, such as borders and corners."""

from __future__ import annotations

import torch
from torch import Tensor

BORDER, CORNER = 0.1, 0.25  # of the side


def border_mask(height: int, width: int, share: float = BORDER) -> Tensor:
    """[H, W] bool: what lies within this share of the height or width from an edge, at least one pixel."""
    y, x = _depth(height), _depth(width)
    return (y < max(1, round(share * height)))[:, None] | (x < max(1, round(share * width)))


def corner_mask(height: int, width: int, share: float = CORNER) -> Tensor:
    """[H, W] bool: the four corners, each of this share of the height and the width, at least one pixel."""
    y, x = _depth(height), _depth(width)
    return (y < max(1, round(share * height)))[:, None] & (x < max(1, round(share * width)))


def _depth(side: int) -> Tensor:
    """How many pixels lie between each one and the nearer end [side]."""
    positions = torch.arange(side)
    return torch.minimum(positions, positions.flip(0))
