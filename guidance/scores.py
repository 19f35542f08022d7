"""Scores of single attribution maps, upsampled and signed.

Maps are scored in one way, whatever loss the net was trained with: raw map -> bilinear upsampling -> positive part ->
score. (The published code clamps before upsampling for some losses and after it for others, so its scores depend on
the training loss.) Every score is invariant to the scale of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.maps import energy_share, full_precision, positive_energy, safe_denominator


def has_energy(attribution: Tensor) -> Tensor:
    """Whether maps [M, H, W] have positive energy [M] bool: more than 1e-7 of the sum of their magnitudes."""
    with full_precision(attribution) as maps:
        return positive_energy(maps)[1]


def epg(attribution: Tensor, mask: Tensor) -> Tensor:
    """Energy pointing game [M] in [0, 1]: share of the positive attribution inside the mask (Rao et al. 2023, Eq. 2).

    `attribution` [M, H, W] upsampled and signed, `mask` [M, H, W] bool. 0 for a map without positive energy, which
    counts in the mean as published (`has_energy` tells them apart), and for an empty mask. Does not depend on the
    scale of the map.
    """
    with full_precision(attribution) as maps:
        return energy_share(maps, mask)


def iou(attribution: Tensor, mask: Tensor, thresholds: Tensor | Sequence[float]) -> Tensor:
    """Intersection over union of binarised maps with masks [M, H, W] bool, at T thresholds: [M, T] in [0, 1].

    The positive part is scaled to [0, 1] by its smallest and largest value; pixels strictly above the threshold are
    active. A map without positive energy is 0 everywhere; a positive map that is constant (to 1e-6 of its value) is 1
    everywhere. An empty union scores 0. The limits are relative, those of the published code absolute.
    """
    with full_precision(attribution) as maps:
        positive, _ = positive_energy(maps)
        high, low = positive.amax((1, 2), keepdim=True), positive.amin((1, 2), keepdim=True)
        constant = (high - low) <= 1e-6 * high
        spread = torch.where(constant, high, high - low)
        normalised = (positive - torch.where(constant, 0.0, low)) / safe_denominator(spread)
        limits = torch.as_tensor(thresholds, dtype=normalised.dtype, device=normalised.device)
        # One threshold at a time: T copies of the maps would not fit beside a large batch.
        return torch.stack([_mask_iou(normalised > limit, mask) for limit in limits], dim=1)


def seg_epg(attribution: Tensor, mask: Tensor, segment: Tensor) -> Tensor:
    """Share of the energy inside the box that lies on the object [M] in [0, 1] (SegEPG, Rao et al. 2023, supplement).

    `mask` [M, H, W] bool: union of boxes; `segment` [M, H, W] bool. Energy outside the box is disregarded, also where
    the segmentation leaves the box, so that the score stays below 1; inside, it is the published quotient. 0 where
    the box holds no energy.
    """
    with full_precision(attribution) as maps:
        inside = torch.where(mask, maps, 0.0)
        return energy_share(inside, segment)


def x_seg_epg(attribution: Tensor, segment: Tensor) -> Tensor:
    """Share of all positive energy that lies on the object [M] in [0, 1] (X-SegEPG).

    Reproducibility study of Rao et al., Sec. 3.5.1. EPG with the segmentation as the mask; the same cases score 0.
    """
    return epg(attribution, segment)


def _mask_iou(active: Tensor, mask: Tensor) -> Tensor:
    union = (active | mask).sum((1, 2))
    return (active & mask).sum((1, 2)) / union.clamp_min(1)
