"""How a run trains, in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from guidance.types import lookup

# What the forward is computed in, where that is not fp32; attributions and losses stay in fp32.
PRECISIONS: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


class Minimum(NamedTuple):
    """What a metric must have reached after some epochs, for training to go on."""

    metric: str
    value: float
    epochs: int

    def missed(self, epochs: int, best: Mapping[str, float]) -> bool:
        """Whether, after `epochs`, it is time and the `best` value of the metric is lower."""
        return epochs >= max(1, self.epochs) and best.get(self.metric, -math.inf) < self.value

    def describe_miss(self, epochs: int, best: Mapping[str, float]) -> str:
        """Why training ends after `epochs`, for people."""
        found = best.get(self.metric, math.nan)
        return f"early stop after epoch {epochs}: best {self.metric} {found:.4f} < {self.value}"


@dataclass(frozen=True)
class TrainingOptions:
    """Raises ValueError for an unknown `precision`."""

    device: torch.device
    epochs: int
    accumulate: int = 1  # chunks that a global batch is split into
    clip_norm: float | None = None  # of the gradient of all weights; None clips nothing
    precision: str = "fp32"  # or "bf16", which runs the forward in autocast
    minimum: Minimum | None = None  # stop when the best value so far is lower after that many epochs
    log_every: int = 10  # steps
    checkpoint_every: int | None = None  # steps, beside the checkpoints around each evaluation
    max_batches: int | None = None  # shortens each epoch (dry run)

    def __post_init__(self) -> None:
        lookup(PRECISIONS, self.precision, "precision")

    @property
    def autocast(self) -> torch.autocast:
        """The context of the forward."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def length(self, batches_per_epoch: int) -> int:
        """Batches of an epoch."""
        return batches_per_epoch if self.max_batches is None else min(batches_per_epoch, self.max_batches)
