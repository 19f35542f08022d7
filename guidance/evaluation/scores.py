"""Scores of single attribution maps, upsampled and signed.

Maps are scored in one way, whatever loss the net was trained with: raw map -> bilinear upsampling -> positive part ->
score. (The published code clamps before upsampling for some losses and after it for others, so its scores depend on
the training loss.) Every score is invariant to the scale of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.maps import Maps, count_pixels, energy_inside, energy_of, energy_share, full_precision, safe_denominator

# Maps at the input have isolated peaks, so the best threshold may be far below those of a smooth map.
IOU_THRESHOLDS: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.04, *(i / 20 for i in range(1, 20)))


def epg(attribution: Maps, mask: Tensor) -> Tensor:
    """Energy pointing game [M] in [0, 1]: share of the positive attribution inside the mask (Rao et al. 2023, Eq. 2).

    `attribution` [M, H, W] upsampled and signed, `mask` [M, H, W] bool. 0 for a map without positive energy, which
    counts in the mean as in the published code (`Energy.exists` tells them apart), and for an empty mask. Does not depend on
    the scale of the map.
    """
    return energy_share(attribution, mask)


def iou(attribution: Maps, mask: Tensor, thresholds: Tensor | Sequence[float]) -> Tensor:
    """Intersection over union of binarised maps with masks [M, H, W] bool, at T thresholds: [M, T] in [0, 1].

    The positive part is scaled to [0, 1] by its smallest and largest value; pixels strictly above the threshold are
    active. A map without positive energy is 0 everywhere; a positive map that is constant (to 1e-6 of its value) is 1
    everywhere. An empty union scores 0. The limits are relative, those of the published code absolute.
    """
    positive = energy_of(attribution).positive
    high, low = positive.amax((1, 2), keepdim=True), positive.amin((1, 2), keepdim=True)
    constant = (high - low) <= 1e-6 * high
    spread = torch.where(constant, high, high - low)
    normalised = (positive - torch.where(constant, 0.0, low)) / safe_denominator(spread)
    limits = torch.as_tensor(thresholds, dtype=normalised.dtype, device=normalised.device)
    outside, both = _above(normalised, limits, mask).unbind(1)
    return both / (outside + count_pixels(mask)[:, None]).clamp_min(1)


def seg_epg(attribution: Maps, mask: Tensor, segment: Tensor) -> Tensor:
    """Share of the energy inside the box that lies on the object [M] in [0, 1] (SegEPG, Rao et al. 2023, supplement).

    `mask` [M, H, W] bool: union of boxes; `segment` [M, H, W] bool. Energy outside the box is disregarded, also where
    the segmentation leaves the box, so that the score stays below 1; inside, it is the published quotient. 0 where
    the box holds no energy, and for a map without positive energy. Where the segmentation lies inside the box, neither
    SegEPG nor EPG is smaller than X-SegEPG, exactly.
    """
    positive = energy_of(attribution).positive
    inside = energy_inside(positive, mask)
    return energy_inside(positive, mask & segment) / torch.where(inside > 0, inside, 1.0)


def x_seg_epg(attribution: Maps, segment: Tensor) -> Tensor:
    """Share of all positive energy that lies on the object [M] in [0, 1] (X-SegEPG).

    Reproducibility study of Rao et al., Sec. 3.5.1. EPG with the segmentation as the mask; the same cases score 0.
    """
    return epg(attribution, segment)


def region_attribution(attribution: Maps, mask: Tensor, *, sigma: float = 2.0) -> Tensor:
    """Share of the blurred positive attribution inside the mask [M] in [0, 1] (RA of Attribution Lens).

    The positive part is blurred with a Gaussian of 11 x 11 pixels whose standard deviation is `sigma` pixels, then it is
    the sum inside the mask over the whole sum. The paper does not give sigma; 2.0 is what OpenCV derives from the width
    11. The border is mirrored without repeating its pixels, as there, so a uniform map stays uniform. 0 for a map
    without positive energy and for an empty mask.
    """
    energy = energy_of(attribution)
    with full_precision(energy.positive) as positive:
        blurred = _blur(positive, _checked(sigma))
    return energy_inside(blurred, mask) / torch.where(energy.exists, blurred.sum((1, 2)), 1.0)


def _checked(sigma: float) -> float:
    if not sigma > 0:
        raise ValueError(f"sigma of the blur must be above 0 pixels, not {sigma}")
    return sigma


def _blur(positive: Tensor, sigma: float) -> Tensor:
    """Maps [M, H, W] blurred with a Gaussian of 11 x 11 pixels."""
    rows, columns = (_blur_matrix(positive, dim, sigma) for dim in (1, 2))
    return rows @ positive @ columns.T


def _blur_matrix(maps: Tensor, dim: int, sigma: float, radius: int = 5) -> Tensor:
    """[n, n]: each row holds the weights of one blurred pixel along `dim`, of any size, mirrored at the border."""
    size = maps.shape[dim]
    offset = torch.arange(-radius, radius + 1, device=maps.device)
    weight = torch.exp(-0.5 * (offset / sigma).square()).to(maps.dtype)
    period = max(2 * size - 2, 1)
    place = (torch.arange(size, device=maps.device)[:, None] + offset).remainder(period)
    place = torch.minimum(place, period - place) if size > 1 else torch.zeros_like(place)
    matrix = maps.new_zeros(size, size)
    return matrix.scatter_add_(1, place, (weight / weight.sum()).expand(size, -1))


def pixel_scores(
    attribution: Maps, mask: Tensor, *, threshold: float = 0.0, sigma: float | None = None
) -> dict[str, Tensor]:
    """Binarised maps as a prediction of the mask: {"pixel_precision", "pixel_recall", "pixel_f1", "pixel_iou"}, each [M].

    A pixel is active where the map is above `threshold` in [0, 1) times its largest value; with 0, where it is positive,
    unlike in `iou`, which subtracts the smallest value first. Precision: share of the active pixels inside the mask.
    Recall: share of the mask that is active. F1: their harmonic mean, 2 x both / (active + mask). IoU: both / either. All
    in [0, 1], and 0 where their denominator is; a map without positive energy has no active pixel.

    `sigma`: None binarises the map as it is; a number of pixels blurs its positive part first, as `region_attribution` does.
    Attribution Lens contradicts itself: its text blurs before all its metrics (Sec. 4.1, Appendix B.1), but the blur of a
    positive part is positive nearly everywhere, while in its Table 1 maps of noisy signs have on quadrants IoU 0.20 and F1
    0.33, those of a map of which half of the pixels are active; and it gives no threshold. So the default is the unblurred
    sign, which the tables fit: a map that is active everywhere has IoU 0.25 and F1 0.40 on a quadrant.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a share of the map's largest value, at least 0 and below 1; got {threshold}")
    with full_precision(energy_of(attribution).positive) as positive:
        if sigma is not None:
            positive = _blur(positive, _checked(sigma))
        active = positive > threshold * positive.amax((1, 2), keepdim=True)
    both, chosen, wanted = (count_pixels(x) for x in (active & mask, active, mask))
    return {
        "pixel_precision": both / chosen.clamp_min(1),
        "pixel_recall": both / wanted.clamp_min(1),
        "pixel_f1": 2 * both / (chosen + wanted).clamp_min(1),
        "pixel_iou": both / (chosen + wanted - both).clamp_min(1),
    }


def all_scores(
    attribution: Maps, mask: Tensor, *, threshold: float = 0.0, sigma: float = 2.0, blurred_pixels: bool = False
) -> dict[str, Tensor]:
    """What an evaluation computes only where it is asked for all scores: {name in ALL_SCORES: [M]}.

    `sigma`: of the blur of region attribution, and, with `blurred_pixels`, of that before pixels are binarised.
    """
    energy = energy_of(attribution)
    region = {"region_attribution": region_attribution(energy, mask, sigma=sigma)}
    blur = sigma if blurred_pixels else None
    return region | pixel_scores(energy, mask, threshold=threshold, sigma=blur)


ALL_SCORES = ("region_attribution", "pixel_precision", "pixel_recall", "pixel_f1", "pixel_iou")


def _above(maps: Tensor, limits: Tensor, mask: Tensor) -> Tensor:
    """How many pixels of each map lie strictly above each of the limits [T], in any order: [M, 2, T] long, outside and inside
    its mask.

    Each pixel is looked at once, however many limits there are: of the sorted ones it is above the first so many.
    """
    ordered, order = limits.sort()
    bins = len(limits) + 1
    passed = torch.bucketize(maps, ordered, out_int32=True).masked_fill_(maps.isnan(), 0)  # NaN is above nothing
    first = torch.arange(0, 2 * bins * len(maps), 2 * bins, dtype=passed.dtype, device=maps.device)
    passed.add_(mask, alpha=bins).add_(first[:, None, None])
    counts = passed.flatten().bincount(minlength=2 * len(maps) * bins).view(len(maps), 2, bins)
    return counts[..., 1:].flip(2).cumsum(2).flip(2)[..., order.argsort()]
