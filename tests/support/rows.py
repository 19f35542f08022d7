"""Rows of samples without regions, random batches with their logits and maps, and rows compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from guidance.evaluation.rows import Rows, RowSettings
from guidance.evaluation.scores import IOU_THRESHOLDS
from guidance.types import Batch, Regions


def make_rows(logits: Sequence[Sequence[float]], targets: Sequence[Sequence[float]], **settings: Any) -> Rows:
    """Rows of samples without regions; `settings`: of `RowSettings`, or columns."""
    n = len(logits)
    none = torch.zeros(0)
    rows = Rows(
        index=torch.arange(n),
        logits=torch.tensor(logits, dtype=torch.float64).reshape(n, -1),
        targets=torch.tensor(targets).reshape(n, -1) > 0,
        groups=torch.full((n,), -1),
        region_index=none.long(), region_target=none.long(), kind=none.long(), area=none.double(),
        pixels=none.double(), never_energy=none.double(), has_never=none.bool(), energy=none.bool(), epg=none.double(),
        iou=none.double().reshape(0, len(IOU_THRESHOLDS)), seg_epg=none.double(), x_seg_epg=none.double(),
        has_segment=none.bool(),
    )  # fmt: skip
    columns = {name: settings.pop(name) for name in [f.name for f in fields(Rows)] if name in settings}
    return replace(rows, **columns, settings=RowSettings(**settings))


def random_batch(size: int, *, classes: int = 3, start: int = 0, segments: bool = True) -> tuple[Batch, Tensor, Tensor]:
    """A batch whose every positive class has a region; its logits and its raw maps [M, 3, 3]."""
    targets = (torch.rand(size, classes) > 0.5).float()
    image, target = targets.nonzero(as_tuple=True)
    mask = torch.rand(len(image), 6, 6) > 0.6
    segment = mask & (torch.rand(mask.shape) > 0.5) & (torch.rand(len(image), 1, 1) > 0.3)
    rounds = int(targets.sum(1).max())
    regions = Regions(image, target, mask, segment if segments else None, rounds)
    groups = torch.randint(0, 3, (size,))
    batch = Batch(torch.zeros(size, 3, 6, 6), targets, regions, groups, torch.arange(start, start + size))
    return batch, torch.randn(size, classes), torch.randn(len(image), 3, 3)


def assert_same(rows: Rows, other: Rows) -> None:
    for field in fields(Rows):
        a, b = getattr(rows, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, field.name
