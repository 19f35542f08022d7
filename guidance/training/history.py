"""What training has seen so far, beside the weights that came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from guidance import distributed
from guidance.objectives import Counts
from guidance.training.means import Means
from guidance.training.state import numbers, part
from guidance.training.tally import Tally
from guidance.types import Batch


class History:
    """Means of the terms since they were last logged and over the epoch, its counts, and the metrics of the latest epochs."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}  # metric -> its highest value so far
        self.metrics: dict[str, float] = {}  # of the latest evaluation
        self.window, self.total, self.tally = Means(), Means(), Tally()

    def add(self, terms: Mapping[str, Tensor], batch: Batch, counts: Counts) -> None:
        """Take note of a step; `counts` are those of the global batch."""
        self.tally.add(batch, counts)
        self.window.add(terms)
        self.total.add(terms)

    def read_window(self) -> dict[str, float]:
        """Mean terms since the last call (a collective call)."""
        values = self.window.read()
        self.window = Means()
        return values

    def read_epoch(self) -> dict[str, float]:
        """Mean terms and counts of the epoch so far (a collective call)."""
        return self.total.read() | self.tally.read()

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Take note of the metrics of an epoch."""
        self.metrics = metrics
        for name, value in metrics.items():
            if not math.isnan(value):
                self.best[name] = max(value, self.best.get(name, value))

    def begin_epoch(self) -> None:
        self.total, self.tally = Means(), Tally()

    def state_dict(self) -> dict[str, Any]:
        """As plain types; what each process has for itself in a list. A collective call."""
        return {
            "best": dict(self.best), "metrics": dict(self.metrics),
            **{name: distributed.gather_objects(own.state_dict()) for name, own in self._own().items()},
        }  # fmt: skip

    def load_common(self, state: Mapping[str, Any]) -> None:
        """What all processes share of `state_dict`, in the state of a training; ValueError where it is damaged."""
        with part("best and metrics"):
            self.best, self.metrics = numbers(state["best"]), numbers(state["metrics"])

    def load_own(self, state: Mapping[str, Any], rank: int, device: torch.device) -> None:
        """What the process `rank` has for itself."""
        for name, own in self._own().items():
            with part(name):
                own.load_state_dict(state[name][rank], device)

    def _own(self) -> dict[str, Means | Tally]:
        return {"window": self.window, "total": self.total, "tally": self.tally}
