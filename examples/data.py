"""Data of one's own, as the other examples use them: coloured squares before noise, whose corner tells the class away."""

from __future__ import annotations

import torch
from torch import Tensor

Item = tuple[Tensor, int, Tensor | None]
CLASSES = ("red", "green", "blue")


def squares(count: int, *, annotated: float = 1.0, seed: int = 0) -> list[Item]:
    """(image [3, 32, 32], class, box [1, 4]): the box is None but for the share of images that is annotated."""
    generator = torch.Generator().manual_seed(seed)
    items: list[Item] = []
    for i in range(count):
        target = i % 3
        image = 0.3 * torch.randn(3, 32, 32, generator=generator)
        x, y = torch.randint(4, 20, (2,), generator=generator).tolist()
        image[target, y : y + 10, x : x + 10] += 0.7
        image[target, :3, :3] += 2.0  # the wrong reason
        items.append((image, target, torch.tensor([[x, y, x + 10, y + 10]]) if i < annotated * count else None))
    return items


def collate(items: list[Item]) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """A batch: images [B, 3, 32, 32], targets [B], a box or None for each image. (torch's own collation refuses None.)"""
    images, targets, boxes = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(targets), list(boxes)
