"""Where the results of training go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Saver(Protocol):
    """Where the trainer's results go; the run folder implements it."""

    def last(self, state: Callable[[], dict[str, Any]], *, metrics: Mapping[str, float]) -> None:
        """Write the checkpoint to resume from. Every process calls it."""

    def offer(self, *, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Keep the current weights if they are Pareto-optimal. Every process calls it."""
