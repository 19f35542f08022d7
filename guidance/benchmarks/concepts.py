"""Masking what the lens shows of one class: does the other one gain? (Attribution Lens, Sec. 4.2, Figs. 5 and 8)"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from guidance.benchmarks.faithfulness import KERNEL


def concept_mask(attribution: Tensor, *, share: float = 0.3, sigma: float = 2.0) -> Tensor:
    """Where a refined map [H, W] holds evidence for its class [H, W] bool: blurred, it is above `share` of its largest value.

    The paper masks "the corresponding explanation regions" and gives neither blur nor limit: the blur is that of its metrics,
    and the limit our choice. All False for a map without positive values. Raises ValueError for a `share` outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is of the largest value, at least 0 and below 1; got {share}")
    blurred = gaussian_blur(attribution.relu()[None], [KERNEL, KERNEL], [sigma, sigma])[0]
    active: Tensor = blurred > share * blurred.max()
    return active


def without(image: Tensor, mask: Tensor, removed: Tensor) -> Tensor:
    """`image` [C, H, W] with the pixels of `mask` [H, W] bool set to `removed` [C]."""
    return torch.where(mask, removed.to(image)[:, None, None], image)
