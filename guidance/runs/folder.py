"""The folder of a run: its config, environment, log, checkpoints and front. Tools read these files, never folder names."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from guidance import distributed
from guidance.runs import checkpoint
from guidance.runs.files import write_atomically
from guidance.runs.front_folder import ParetoFolder
from guidance.runs.locks import RunLock
from guidance.runs.paths import ANNOTATED, epoch_name, front_folder, last_checkpoint

LOG = logging.getLogger(__name__)


def write_annotated(folder: Path, indices: Sequence[int], fraction: float, of: str) -> None:
    """Record which training images (positions in the split) had their regions used, and what `fraction` is a share `of`."""
    if distributed.is_main():
        content = {"annotated_fraction": fraction, "annotated_of": of, "indices": list(indices)}
        write_atomically(folder / ANNOTATED, json.dumps(content) + "\n")


class RunFolder:
    """Saves a run's checkpoints: `checkpoints/last.pt` to resume from, and the front in `checkpoints/pareto/`.

    `resumed`: the checkpoint that the run goes on from; members of the front that it knows and that are gone are told of.
    `lock`: of the folder; it lasts as long as this does.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        *,
        config: Mapping[str, Any],
        classes: Sequence[str],
        metrics: Sequence[str],
        resolution: float,
        resumed: Mapping[str, Any] | None = None,
        lock: RunLock | None = None,
    ) -> None:
        self.lock = lock
        self.folder, self.model = folder, model
        self.config, self.classes = dict(config), list(classes)
        self.front: ParetoFolder | None = None
        if distributed.is_main():
            self.front = ParetoFolder(front_folder(folder), metrics, resolution=resolution)
            if resumed is not None:
                self._miss(self.front, resumed)

    @staticmethod
    def _miss(front: ParetoFolder, resumed: Mapping[str, Any]) -> None:
        """Say which members of the front are gone, though no later one can have taken their place."""
        there = {member.name for member in front.members}
        gone = [name for name in resumed.get("front", ()) if name not in there]
        if gone and not any(name > epoch_name(resumed["epoch"]) for name in there):
            LOG.warning(
                "of the Pareto front in %s %s gone since the last checkpoint was written; the front goes on without",
                front.folder, f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'}",
            )  # fmt: skip

    def last(self, state: Callable[[], dict[str, Any]], *, metrics: Mapping[str, float]) -> None:
        """Write the checkpoint to resume from; a collective call, because `state()` gathers from every process."""
        trainer = state()
        if distributed.is_main():
            content = self._content(metrics, epoch=trainer["epoch"], step=trainer["step"]) | {"trainer": trainer}
            content["front"] = [member.name for member in self.front.members] if self.front is not None else []
            checkpoint.save(last_checkpoint(self.folder), content)
        distributed.barrier()

    def offer(self, *, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Keep the current weights if no checkpoint of this run dominates them."""
        kept = False
        if self.front is not None:
            kept = self.front.offer(epoch_name(epoch), metrics, lambda: self._content(metrics, epoch=epoch, step=step))
        distributed.barrier()
        return kept

    def _content(self, metrics: Mapping[str, float], *, epoch: int, step: int) -> dict[str, Any]:
        return {
            "format": checkpoint.FORMAT,
            "version": checkpoint.VERSION,
            "config": self.config,
            "classes": self.classes,
            "model": self.model.state_dict(),
            "metrics": dict(metrics),
            "epoch": epoch,
            "step": step,
        }
