"""The folder of a run: its config, environment, log, checkpoints and front. Tools read these files, never folder names."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from torch import nn

import guidance
from guidance import checkpoint, distributed

CONFIG, ENVIRONMENT, ANNOTATED = "config.yaml", "environment.json", "annotated.json"


def last_checkpoint(folder: Path) -> Path:
    """Where the checkpoint to resume from lies."""
    return folder / "checkpoints" / "last.pt"


def prepare_folder(folder: Path, config_text: str, *, resume: bool) -> None:
    """Create the folder and write what identifies the run. Raises ValueError rather than touch another run's results."""
    # One process looks: another would see what the first has just written.
    exists = distributed.broadcast_object((folder / CONFIG).exists())
    if exists and not resume:
        raise ValueError(
            f"{folder} already holds a run; add --resume to go on with it, or choose another folder with --output"
        )
    if distributed.is_main():
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(config_text)
        if not exists:
            (folder / ENVIRONMENT).write_text(json.dumps(environment(), indent=2) + "\n")
    distributed.barrier()


def environment() -> dict[str, Any]:
    """Versions and hardware, as plain types."""
    return {
        "guidance": guidance.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": distributed.world_size(),
        "command": sys.argv,
    }


def write_annotated(folder: Path, indices: Sequence[int], fraction: float) -> None:
    """Record which training images (positions in the split) had their regions used."""
    if distributed.is_main():
        content = {"annotated_fraction": fraction, "indices": list(indices)}
        (folder / ANNOTATED).write_text(json.dumps(content) + "\n")


class RunFolder:
    """Saves a run's checkpoints: `checkpoints/last.pt` to resume from, and the front in `checkpoints/pareto/`."""

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        *,
        config: Mapping[str, Any],
        classes: Sequence[str],
        metrics: Sequence[str],
        resolution: float,
    ) -> None:
        self.folder, self.model = folder, model
        self.config, self.classes = dict(config), list(classes)
        self.front: checkpoint.ParetoFolder | None = None
        if distributed.is_main():
            pareto = folder / "checkpoints" / "pareto"
            self.front = checkpoint.ParetoFolder(pareto, metrics, resolution=resolution)

    def last(self, state: Callable[[], dict[str, Any]], *, metrics: Mapping[str, float]) -> None:
        """Write the checkpoint to resume from; a collective call, because `state()` gathers from every process."""
        trainer = state()
        if distributed.is_main():
            content = self._content(metrics, epoch=trainer["epoch"], step=trainer["step"]) | {"trainer": trainer}
            checkpoint.save(last_checkpoint(self.folder), content)
        distributed.barrier()

    def offer(self, *, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Keep the current weights if no checkpoint of this run dominates them."""
        kept = False
        if self.front is not None:
            kept = self.front.offer(
                f"epoch_{epoch:04d}", metrics, lambda: self._content(metrics, epoch=epoch, step=step)
            )
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
