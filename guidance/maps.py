"""What losses and metrics do to a raw attribution map: full precision, upsampling, positive energy.

Raw maps are signed and carry the scale of the logits, which may be tiny; nothing here compares them with an absolute
number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

RELATIVE_EPS = 1e-7  # share of the absolute energy of a map below which its positive energy is rounding error


@contextmanager
def full_precision(x: Tensor) -> Iterator[Tensor]:
    """Yields `x` as float32 (float64 stays), with autocast off inside the block."""
    with torch.autocast(x.device.type, enabled=False):
        yield x.to(torch.promote_types(x.dtype, torch.float32))


def upsample(attribution: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear (align_corners False): raw maps [M, h, w] -> [M, H, W], where `size` is (H, W)."""
    if attribution.shape[1:] == size:
        return attribution
    return functional.interpolate(attribution[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def safe_denominator(peak: Tensor) -> Tensor:
    """The largest magnitude of a map, or 1 where it counts as zero.

    The value is replaced before the division: selecting after it would leave a NaN gradient behind.
    """
    return torch.where(_counts_as_zero(peak), 1.0, peak)


def positive_energy(attribution: Tensor) -> tuple[Tensor, Tensor]:
    """Positive part of each map up to a positive factor [M, H, W], and whether it holds any energy [M] bool.

    A map has positive energy if the sum of its positive part is more than 1e-7 of the sum of its magnitudes; without,
    the positive part is all zero. The factor is a constant of the gradient and makes the largest magnitude 1, so that
    sums of a map of any scale neither vanish nor overflow; it cancels in every quotient of energies.
    """
    peak = attribution.detach().abs().amax((1, 2), keepdim=True)
    scaled = attribution / safe_denominator(peak)
    positive = scaled.relu()
    # Negated, so that a NaN map counts as having energy and stays NaN: hiding it would hide a diverged net.
    negligible = positive.detach().sum((1, 2)) <= RELATIVE_EPS * scaled.detach().abs().sum((1, 2))
    has_energy = ~(negligible | _counts_as_zero(peak)[:, 0, 0])
    return torch.where(has_energy[:, None, None], positive, 0.0), has_energy


def _counts_as_zero(peak: Tensor) -> Tensor:
    # Within 1e8 of the smallest normal float, sums of quotients could overflow in the gradient.
    return peak < torch.finfo(peak.dtype).tiny * 1e8


class Energy(NamedTuple):
    """The positive energy of M maps. What is made of maps takes them or this, which several scores can share."""

    positive: Tensor  # [M, H, W]: the positive part, up to a factor of each map; 0 for a map without positive energy
    total: Tensor  # [M]: its sum; 1 for a map without positive energy
    exists: Tensor  # [M] bool: whether there is more of it than 1e-7 of the sum of the map's magnitudes


Maps: TypeAlias = Tensor | Energy  # [M, H, W] upsampled and signed, or what `energy_of` makes of them


def energy_of(attribution: Maps) -> Energy:
    """The positive energy of maps [M, H, W], upsampled and signed."""
    if isinstance(attribution, Energy):
        return attribution
    with full_precision(attribution) as maps:
        positive, exists = positive_energy(maps)
        return Energy(positive, torch.where(exists, positive.sum((1, 2)), 1.0), exists)


def energy_inside(positive: Tensor, mask: Tensor) -> Tensor:
    """Sum of positive maps over their masks [M, H, W] bool: [M]."""
    return (positive * mask.to(positive.dtype)).sum((1, 2))  # a product with bool would be several times slower


def energy_share(attribution: Maps, mask: Tensor) -> Tensor:
    """Share of the positive energy of each map [M, H, W] that lies in its mask [M, H, W] bool: [M] in [0, 1].

    0, with zero gradient, for a map without positive energy (see `positive_energy`).
    """
    energy = energy_of(attribution)
    return energy_inside(energy.positive, mask) / energy.total


def count_pixels(mask: Tensor) -> Tensor:
    """How many pixels of each mask [M, H, W] bool are active: [M] long."""
    return mask.flatten(1).count_nonzero(1)


def merged_mask(masks: Mapping[str, Tensor]) -> Tensor:
    """Where any stage's mask is active: [B, 1, h, w] in {0, 1} at the resolution of the largest mask.

    Masks are enlarged as the top-down pathway enlarges its features, from stage to stage by nearest neighbours, so the fused
    features are zero where the merged mask is. (Where masks are applied bottom-up, the last one alone decides that.)
    Raises ValueError without masks.
    """
    if not masks:
        raise ValueError("this net has no masks; only nets that mask their features, as those of AIM, have them")
    ordered = sorted(masks.values(), key=lambda mask: mask.shape[2] * mask.shape[3])
    merged = ordered[0].detach()
    for mask in ordered[1:]:
        merged = torch.maximum(functional.interpolate(merged, mask.shape[2:]), mask.detach())
    return merged
