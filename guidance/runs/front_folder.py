"""The Pareto front of a run: a folder of checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from guidance.runs.checkpoint import SUFFIX, TEMPORARY, read, save
from guidance.runs.pareto import Candidate, ParetoFront


def read_candidates(folder: str | Path) -> list[Saved]:
    """The checkpoints of a folder (`*.pt`), oldest first, without loading their weights.

    It may run beside a training that writes there: if a file goes away meanwhile, the folder is read again, so that
    the file that made it go is among the result. ValueError for a file that cannot be read, or that has no metrics.
    """
    for _ in range(100):
        with suppress(FileNotFoundError):
            saved = [_read_candidate(path) for path in Path(folder).glob(f"*{SUFFIX}")]
            return sorted(saved, key=lambda s: (s.epoch, s.step, s.candidate.name))
    raise ValueError(f"{folder} lists a checkpoint that cannot be opened; is there a link to a file that is gone?")


def _read_candidate(path: Path) -> Saved:
    state = read(path, verify=False)
    if not state["metrics"]:
        raise ValueError(f"{path} has no metrics: it was saved before the first evaluation; take it out of the folder")
    return Saved(path, Candidate(path.stem, state["metrics"]), state["epoch"], state["step"], state["config"])


class Saved(NamedTuple):
    """A checkpoint on disk, without its weights."""

    path: Path
    candidate: Candidate  # named by the file's stem
    epoch: int
    step: int
    config: Mapping[str, Any]


class ParetoFolder:
    """A folder that holds the non-dominated checkpoints of a run, `<name>.pt` each, and no other `.pt` files.

    The files are the front: each carries its own metrics, and there is no index that could disagree with them. A new
    member is written before those that it dominates are removed, so after a kill at any moment the folder holds the
    front and at most some dominated files; making a `ParetoFolder` removes those. One process may write at a time.
    """

    def __init__(self, folder: str | Path, metrics: Sequence[str], *, resolution: float = 0.005) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for temporary in self.folder.glob(f"*{SUFFIX}{TEMPORARY}"):
            os.unlink(temporary)
        candidates = [saved.candidate for saved in read_candidates(self.folder)]
        self._front = ParetoFront(metrics, resolution=resolution, members=candidates)
        kept = {member.name for member in self._front.members}
        self._remove(candidate.name for candidate in candidates if candidate.name not in kept)

    @property
    def members(self) -> list[Candidate]:
        """The front, oldest first."""
        return self._front.members

    def path(self, name: str) -> Path:
        """File of the member of that name."""
        return self.folder / f"{name}{SUFFIX}"

    def offer(self, name: str, values: Mapping[str, float], state_fn: Callable[[], Mapping[str, Any]]) -> bool:
        """Keep a checkpoint if no member dominates it; returns whether it was kept.

        `values` go into the file as its metrics (all of them, not only those of the front). `state_fn()` is called only
        for a checkpoint that is kept. If writing fails (as in `save`), the front and its files stay as they were.
        """
        candidate = Candidate(name, {metric: float(value) for metric, value in values.items()})
        front = ParetoFront(self._front.metrics, resolution=self._front.resolution, members=self.members)
        kept, evicted = front.offer(candidate)
        if kept:
            save(self.path(name), {**state_fn(), "metrics": dict(candidate.values)})
        self._front = front
        self._remove(member.name for member in evicted)
        return kept

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(self.path(name))
