"""Insertion and deletion: does the class's probability follow the pixels that a map calls important?

Attribution Lens, Sec. 4.2, after Petsiuk et al. 2018 (RISE), whose settings are taken where the paper gives none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from guidance.models.classifier import Classifier

KERNEL, SIGMA = 11, 5.0  # of the blurred image from which insertion starts, in pixels (RISE)


def ranks(attribution: Tensor) -> Tensor:
    """Ranks [M, H, W] long of the pixels of maps, 0 of the largest value, of equals of the first in reading order."""
    flat = attribution.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
    return found.view_as(attribution)


def curve(
    model: Classifier, start: Tensor, end: Tensor, rank: Tensor, target: int, *, step: int, batch_size: int = 32,
    single_label: bool = True,
) -> Tensor:  # fmt: skip
    """Probability of `target` while the pixels of `start` [C, H, W] become those of `end`, `step` at a time: [n + 1] float64.

    `rank` [H, W] from `ranks`; n = ceil(H W / step). The first value is that of `start`, the last that of `end`. Softmax for
    nets of `single_label` data, else sigmoid.
    """
    total = rank.numel()
    limits = [min(i * step, total) for i in range(-(-total // step) + 1)]
    found = []
    with torch.no_grad():
        for first in range(0, len(limits), batch_size):
            limit = torch.tensor(limits[first : first + batch_size], device=rank.device)[:, None, None]
            images = torch.where((rank[None] < limit)[:, None], end[None], start[None])
            logits = model(images).logits.double()
            found.append((logits.softmax(1) if single_label else logits.sigmoid())[:, target])
    return torch.cat(found).cpu()


def area(values: Sequence[float] | Tensor) -> float:
    """Area under a curve [n + 1] over [0, 1], by the trapezoidal rule: (sum - first / 2 - last / 2) / n."""
    points = torch.as_tensor(values, dtype=torch.float64)
    if len(points) < 2:
        raise ValueError("an area needs a curve of at least two points")
    return float((points.sum() - points[0] / 2 - points[-1] / 2) / (len(points) - 1))


def insertion(
    model: Classifier, image: Tensor, rank: Tensor, target: int, *, step: int, single_label: bool = True
) -> Tensor:
    """From the blurred image (Gaussian of 11 pixels, sigma 5) to the image, the most important first. Higher is better."""
    blurred = gaussian_blur(image, [KERNEL, KERNEL], [SIGMA, SIGMA])
    return curve(model, blurred, image, rank, target, step=step, single_label=single_label)


def deletion(
    model: Classifier, image: Tensor, rank: Tensor, target: int, *, removed: Tensor, step: int, single_label: bool = True
) -> Tensor:  # fmt: skip
    """From the image to one whose pixels are all `removed` [C], the most important first. Lower is better.

    RISE removes to zero in normalised images, the mean colour of ImageNet: `guidance.data.transforms.encodings.mean_pixel`.
    """
    empty = removed.to(image)[:, None, None].expand_as(image)
    return curve(model, image, empty, rank, target, step=step, single_label=single_label)
