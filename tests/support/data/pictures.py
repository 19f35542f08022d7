"""Small image files and sources for the data tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from guidance.data import Record, Source
from guidance.data.transforms.views import View
from guidance.regions import boxes_to_mask

Box = tuple[float, float, float, float]


def write_picture(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> Path:
    """A PNG of random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_broken(path: Path) -> Path:
    """A PNG that stops in the middle."""
    content = write_picture(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def read_halves(record: Record) -> Mapping[int, Tensor]:
    """Class k is segmented in the left half where k is even, in the right half where it is odd; class 3 never is."""
    height, width = 20, 30
    left = torch.zeros(height, width, dtype=torch.bool)
    left[:, : width // 2] = True
    return {k: left if k % 2 == 0 else ~left for k in record.classes if k != 3}


def make_source(
    folder: Path,
    annotations: Sequence[Sequence[tuple[int, Box]]],
    *,
    complement: bool = False,
    read_segments: Callable[[Record], Mapping[int, Tensor]] | None = read_halves,
) -> Source:
    """A multi-label source of 4 classes; `annotations` lists the (class, box) pairs of each 20 x 30 image."""
    records = tuple(
        Record(
            path=write_picture(folder / f"{i}.png", seed=i),
            classes=tuple(sorted({k for k, _ in pairs})),
            boxes=tuple(box for _, box in pairs),
            box_classes=tuple(k for k, _ in pairs),
            segmentation=folder / "halves" if read_segments is not None and any(k != 3 for k, _ in pairs) else None,
            group=i % 2,
        )
        for i, pairs in enumerate(annotations)
    )
    classes = ("a", "b", "c", "d")
    return Source("pictures", "train", classes, records, False, ("even", "odd"), read_segments, complement)


def box_view(box: Box, height: int, width: int) -> View:
    """A view whose image and segment both are white inside `box` (integer corners)."""
    inside = boxes_to_mask(torch.tensor([box]), height, width).to(torch.uint8)
    return {
        "image": tv_tensors.Image(inside.repeat(3, 1, 1) * 255),
        "boxes": tv_tensors.BoundingBoxes(torch.tensor([box]), format="XYXY", canvas_size=(height, width)),
        "segments": tv_tensors.Mask(inside),
    }


def picture(height: int = 40, width: int = 56, seed: int = 0) -> tv_tensors.Image:
    """Smooth colours: at sharp edges every rounding would show."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return tv_tensors.Image((smooth[0] * 255).to(torch.uint8))
