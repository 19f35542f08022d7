"""AIM's masks, their area loss and its top-down pathway, image by image and cell by cell."""

from __future__ import annotations

import torch
from torch import Tensor


def enlarged(a: Tensor, height: int, width: int) -> Tensor:
    """[C, h, w] by nearest neighbours: cell (i, j) is taken from (floor(i h / height), floor(j w / width))."""
    h, w = a.shape[1:]
    out = a.new_zeros((a.shape[0], height, width))
    for i in range(height):
        for j in range(width):
            out[:, i, j] = a[:, i * h // height, j * w // width]
    return out


def slow_top_down(stages: dict[str, tuple[Tensor, Tensor | None]]) -> tuple[Tensor, dict[str, Tensor]]:
    """AIM, Eq. 3 and Fig. 2, image by image. Stage -> (T(S) [B, F, h, w], its mask [B, 1, h, w], or None: the next one's)."""
    masks: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    fused = []
    for b in range(len(next(iter(stages.values()))[0])):
        total = mask = None
        for stage, (features, own) in reversed(stages.items()):
            height, width = features.shape[2:]
            mask = own[b] if own is not None else enlarged(mask, height, width)  # type: ignore[arg-type]
            masks[stage].append(mask)
            sparse = features[b].clone()
            for i in range(height):
                for j in range(width):
                    sparse[:, i, j] *= mask[0, i, j]
            total = sparse if total is None else sparse + enlarged(total, height, width)
        assert total is not None
        fused.append(total)
    return torch.stack(fused), {stage: torch.stack(found) for stage, found in masks.items()}


def slow_area(masks: dict[str, Tensor], thresholds: dict[str, float], *, of_batch: bool) -> float:
    """AIM, Eq. 6, in Python's floats: sum over stages of (share of active cells - tau of the stage)^2.

    Of the shares of the whole batch, or of those of each image, of whose losses the mean is taken.
    """
    total = 0.0
    for stage, mask in masks.items():
        shares = []
        for image in mask[:, 0].tolist():
            cells = [value for row in image for value in row]
            shares.append(sum(cells) / len(cells))
        shares = [sum(shares) / len(shares)] if of_batch else shares
        total += sum((share - thresholds[stage]) ** 2 for share in shares) / len(shares)
    return total


def slow_merged_mask(masks: dict[str, Tensor]) -> Tensor:
    """Cells that any mask leaves active, [B, 1, h, w] at the size of the first stage's; enlarged stage by stage."""
    result = []
    for b in range(len(next(iter(masks.values())))):
        merged = None
        for mask in reversed(masks.values()):
            height, width = mask.shape[2:]
            below = None if merged is None else enlarged(merged, height, width)
            merged = mask[b].clone()
            for i in range(height):
                for j in range(width):
                    if below is not None and below[0, i, j] > 0:
                        merged[0, i, j] = 1
        assert merged is not None
        result.append(merged)
    return torch.stack(result)
