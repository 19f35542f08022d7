"""Running means of the logged terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from guidance import distributed
from guidance.training.state import natural


class Means:
    """Running means of the logged terms; sums stay on the device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means over the added steps and over all processes (a collective call)."""
        if not self.sums:
            return {}
        stacked = torch.stack([self.sums[name] / self.counts[name] for name in self.sums])
        return dict(zip(self.sums, distributed.mean(stacked).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device).reshape(()) for name, value in state["sums"].items()}
        self.counts = {name: natural(state["counts"][name]) for name in self.sums}
