"""How what a layer returns is a grid of cells: [B, C, h, w], [B, h, w, C], or tokens [B, T, C], some of which are no patch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

EXTRA_TOKENS = 8  # at most in front of those of the patches: class tokens, distillation tokens, registers


@dataclass(frozen=True)
class Grid:
    """The grid of a state."""

    height: int
    width: int
    cells: Callable[[Tensor], Tensor] | None = None  # as in `guidance.models.classifier.Depth`
    extra: int = 0  # tokens in front of those of the patches


def grid_of(shape: Sequence[int]) -> Grid | None:
    """The grid of a state of this shape, found for a square image; None where it has none.

    Of two equal sides, the last two are taken before the two in the middle. So many tokens are no patch that the rest is a
    square number; as few as that is possible with.
    """
    if len(shape) == 4:
        _, first, second, third = shape
        if first == second != third:
            return Grid(first, second, channels_first)
        return Grid(second, third)
    if len(shape) == 3:
        for extra in range(min(EXTRA_TOKENS, shape[1] - 1) + 1):
            side = math.isqrt(shape[1] - extra)
            if side**2 == shape[1] - extra:
                return Grid(side, side, partial(token_cells, extra=extra), extra)
    return None


def channels_first(state: Tensor) -> Tensor:
    """[M, h, w, C] -> [M, C, h, w]."""
    return state.movedim(3, 1)


def token_cells(tokens: Tensor, *, extra: int) -> Tensor:
    """[M, extra + h * h, C] -> the cells of the patches [M, C, h, h]. ValueError where they are no square."""
    count = tokens.shape[1] - extra
    side = math.isqrt(count)
    if side**2 != count:
        raise ValueError(
            f"{count} tokens of patches are no square grid; give square images, or `cells` for this depth to `wrap`"
        )
    return torch.unflatten(tokens[:, extra:].transpose(1, 2), 2, (side, side))
