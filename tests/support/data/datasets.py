"""Data sets with the options that a test names; boxes in pictures of 30 x 20 pixels, and what a sample covers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guidance.data import (
    GuidanceDataset,
    Record,
    RegionOptions,
    Sample,
    Source,
    Transform,
    eval_transform,
)
from tests.support.data.pictures import Box

LEFT: Box = (0, 0, 10, 20)
RIGHT: Box = (20, 0, 30, 20)
FULL: Box = (0, 0, 30, 20)
THIRDS = {"left": range(10), "middle": range(10, 20), "right": range(20, 30)}
# Which of them count as annotated depends on the regime
RECORDS = {
    "box": Record(Path("a"), (0,), ((0, 0, 1, 1),), (0,)),
    "segment": Record(Path("b"), (0,), segmentation=Path("s")),
    "never": Record(Path("c"), (0,), never_boxes=((0, 0, 1, 1),), never_classes=(0,)),
    "nothing": Record(Path("d"), (0,)),
}
REGION_OPTIONS = {field.name for field in fields(RegionOptions)}


def make_dataset(source: Source, transform: Transform, *, training: bool = False, **options: Any) -> GuidanceDataset:
    """`options`: those of `GuidanceDataset` and those of `RegionOptions`, by their names."""
    regions = RegionOptions(**{name: value for name, value in options.items() if name in REGION_OPTIONS})
    others = {name: value for name, value in options.items() if name not in REGION_OPTIONS}
    return GuidanceDataset(source, transform, training=training, regions=regions, **others)


def columns(mask: Tensor) -> list[int]:
    """The columns that `mask` [H, W] covers in full; it must cover nothing else."""
    assert torch.equal(mask.any(0), mask.all(0))
    return torch.nonzero(mask.any(0)).flatten().tolist()


def sample(source: Source, index: int = 0, **options: Any) -> Sample:
    return make_dataset(source, eval_transform(30), **options)[0, index]


def covered(found: Sample) -> dict[int, list[int]]:
    return {int(k): columns(mask) for k, mask in zip(found.classes, found.masks, strict=True)}


def with_never(source: Source, never: Sequence[tuple[int, Box]], index: int = 0) -> Source:
    """`source`, one image of which must not show evidence for the given classes in the given boxes."""
    records = list(source.records)
    records[index] = records[index]._replace(
        never_boxes=tuple(box for _, box in never), never_classes=tuple(k for k, _ in never)
    )
    return dataclasses.replace(source, records=tuple(records))
