"""The competition itself: maps of several classes in, refined maps out. Knows nothing of nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.maps import full_precision, safe_denominator

INVERSE_TEMPERATURES = (1.0, 5.0, 100.0)


def lens(
    maps: Tensor,
    *,
    inverse_temperatures: Sequence[float] = INVERSE_TEMPERATURES,
    normalize: bool = False,
    magnitude: bool = False,
    threshold: float = 0.0,
    present: Tensor | None = None,
) -> Tensor:
    """Attribution Lens: signed maps [C', M, h, w] of C' competing classes -> refined maps [C', M, h, w], float32 or float64.

    Walter et al., Eq. 5 to 7: A_c * S_c where S_c > 1 / C', else 0. S_c is the softmax of the maps over the classes at each
    cell, as a mean over temperatures t, given as 1/t. (Eq. 4 contradicts Eq. 5, which the text follows; the appendix prints the
    inverse temperatures as temperatures.) S_c is at most 1, so that no value grows and no sign changes. Rounding does not
    decide the comparison with chance: classes with equal maps get 0 everywhere, and of two classes the larger one keeps its
    cell, however small both are. Differentiable, where the comparison is a constant.

    - `normalize`: S_c is that of the maps divided by the largest magnitude of all classes and cells of each of the M. The paper
      speaks of normalising and gives no rule, so by default the maps compete as they are: values far below 0.01, as raw
      gradients have, leave S_c at about chance, and only the comparison acts. What is returned has the scale of `maps`.
    - `magnitude`: S_c is that of |A_c|, whose sign comes back with A_c.
    - `threshold` in [0, 1): how far above chance S_c must lie, strictly.
    - `present` [C', M] bool: which classes compete for which of the M; the maps of the others come back as 0. None: all.

    A class that competes with no other has S_c = 1 = 1 / C', which the strict comparison would remove everywhere: its map
    comes back unchanged, because without another class there is nothing that it shares.

    VAR, an earlier form of the method in its authors' code, is inverse_temperatures=(10,), magnitude=True, threshold=0.1. There
    the channels of an image compete one by one; here they are summed before.

    Raises ValueError for maps or `present` of another shape, for no inverse temperature or one that is not positive, and for
    a threshold outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a distance from chance, at least 0 and below 1, not {threshold}")
    with full_precision(maps) as a:
        excess, count = _above_chance(a, inverse_temperatures, normalize, magnitude, present)
        kept = (excess > threshold) | (count == 1)
        if present is not None:
            kept = kept & present[:, :, None, None]
        return torch.where(kept, a * _share(excess, count), 0.0)


def class_shares(
    maps: Tensor,
    *,
    inverse_temperatures: Sequence[float] = INVERSE_TEMPERATURES,
    normalize: bool = False,
    magnitude: bool = False,
    present: Tensor | None = None,
) -> Tensor:
    """The averaged softmax S_c of `lens`, [C', M, h, w] in [0, 1]: at each cell it sums to 1 over the classes."""
    with full_precision(maps) as a:
        excess, count = _above_chance(a, inverse_temperatures, normalize, magnitude, present)
        shares = _share(excess, count)
        return shares if present is None else torch.where(present[:, :, None, None], shares, 0.0)


def _above_chance(
    maps: Tensor, inverse_temperatures: Sequence[float], normalize: bool, magnitude: bool, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """S_c - 1 / C' [C', M, h, w], and C' [M, 1, 1].

    Not as the difference of these two, in which rounding would decide about equal and about tiny maps: with e_c = exp(a_c) - 1
    and its mean m over the classes, it is (e_c - m) / (C' (1 + m)).
    """
    _check(maps, inverse_temperatures, present)
    if present is None:
        present = torch.ones(maps.shape[:2], dtype=torch.bool, device=maps.device)
    absent, count = ~present[:, :, None, None], present.sum(0).to(maps.dtype)[:, None, None]
    a = maps.abs() if magnitude else maps
    if normalize:
        a = a / safe_denominator(maps.masked_fill(absent, 0).abs().amax((0, 2, 3)))[:, None, None]
    highest = a.detach().masked_fill(absent, -torch.inf).amax(0)
    below = (a - highest).masked_fill(absent, 0)  # at most 0, so that nothing overflows; 0 adds nothing below
    total = torch.zeros_like(maps)
    for inverse in inverse_temperatures:
        e = torch.expm1(below * inverse)
        mean = e.sum(0) / count
        total = total + (e - mean) / (count * (1 + mean))
    return total / len(inverse_temperatures), count


def _share(excess: Tensor, count: Tensor) -> Tensor:
    return (excess + 1 / count).clamp_max(1)  # what lies above is rounding


def _check(maps: Tensor, inverse_temperatures: Sequence[float], present: Tensor | None) -> None:
    if maps.dim() != 4 or len(maps) == 0:
        raise ValueError(f"the lens takes the maps of one class or more, [C', M, h, w], not {list(maps.shape)}")
    if len(inverse_temperatures) == 0 or not all(value > 0 for value in inverse_temperatures):
        raise ValueError(f"inverse_temperatures are one or more positive numbers 1/t, not {inverse_temperatures!r}")
    if present is not None and (present.shape != maps.shape[:2] or present.dtype != torch.bool):
        raise ValueError(
            f"present says for {list(maps.shape[:2])} classes and maps whether they compete, as bool, but is "
            f"{list(present.shape)} of {present.dtype}"
        )
