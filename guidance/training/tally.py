"""What is counted over an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from guidance import distributed
from guidance.objectives import Counts
from guidance.training.state import numbers
from guidance.types import COUNTED, Batch

# By each process on its own, and (the last two) over the global batches.
TALLIED = (*COUNTED, "regions", "images")


class Tally:
    """What the batches of an epoch left out, and how many of their images had a region."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(TALLIED, 0.0)

    def add(self, batch: Batch, counts: Counts) -> None:
        """Count a batch of this process; `counts` are those of the global batch, see `Objective.counts`."""
        for name in TALLIED:
            self.sums[name] += getattr(batch if name in COUNTED else counts, name)

    def read(self) -> dict[str, float]:
        """What was left out, over all processes, and the share of images that had a region (a collective call)."""
        sums = distributed.sum_numbers([self.sums[name] for name in COUNTED])
        return dict(zip(COUNTED, sums, strict=True)) | {"annotated": self.sums["regions"] / self.sums["images"]}

    def state_dict(self) -> dict[str, float]:
        return dict(self.sums)

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        # An earlier release did not count everything.
        self.sums |= numbers({name: state.get(name, 0.0) for name in TALLIED})
