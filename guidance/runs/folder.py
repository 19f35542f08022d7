"""The folder of a run: its config, environment, log, checkpoints and front. Tools read these files, never folder names."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy
import torch
import torchvision
from torch import nn

import guidance
from guidance import distributed
from guidance.runs import checkpoint
from guidance.runs.locks import lock_folder

LOG = logging.getLogger(__name__)
CONFIG, ENVIRONMENT, ANNOTATED = "config.yaml", "environment.json", "annotated.json"


def last_checkpoint(folder: Path) -> Path:
    """Where the checkpoint to resume from lies."""
    return folder / "checkpoints" / "last.pt"


class RunLock:
    """Keeps other processes out of a run folder until it is garbage, or its process ends in whatever way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None
        self._taken = False

    def claim(self, *, resume: bool) -> None:
        """Lock the folder if it holds a run.

        Raises ValueError, on every process, rather than touch another run's results, or a run that another process goes on
        with. A collective call, to be made before anything slow.
        """
        distributed.main_does(partial(self._claim, resume=resume))

    def prepare(self, config_text: str) -> None:
        """Create the folder, lock it, and write what identifies the run. A collective call."""
        distributed.main_does(partial(self._prepare, config_text))

    def _claim(self, *, resume: bool) -> None:
        if not (self.folder / CONFIG).exists():
            return
        if not resume:
            raise ValueError(
                f"{self.folder} already holds a run; add --resume to go on with it, or choose another folder with --output"
            )
        self._take()

    def _prepare(self, config_text: str) -> None:
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not self._taken:  # there was no run when this process looked
            self._take()
            if (self.folder / CONFIG).exists():
                raise ValueError(
                    f"another process has started a run in {self.folder} while this one prepared its own; go on with that "
                    "one by --resume, or choose another folder with --output"
                )
        write_atomically(self.folder / CONFIG, config_text)
        if not (self.folder / ENVIRONMENT).exists():
            write_atomically(self.folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")

    def _take(self) -> None:
        if not self._taken:  # opening and closing the file a second time would give the lock away
            self._file = lock_folder(self.folder)
            self._taken = True


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file that is whole at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def environment() -> dict[str, Any]:
    """Versions and hardware, as plain types."""
    return {
        "guidance": guidance.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": distributed.world_size(),
        "command": sys.argv,
    }


def commit() -> str | None:
    """The commit of the sources that run, with "+" where they were changed since; None where they are no checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(guidance.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # The package must be tracked: installed into another project's folder it is not of that project's commit.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".", ":/launch") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def write_annotated(folder: Path, indices: Sequence[int], fraction: float) -> None:
    """Record which training images (positions in the split) had their regions used."""
    if distributed.is_main():
        content = {"annotated_fraction": fraction, "indices": list(indices)}
        write_atomically(folder / ANNOTATED, json.dumps(content) + "\n")


def epoch_name(epoch: int) -> str:
    """What the checkpoint of a front is called, without its suffix; names sort as epochs do."""
    return f"epoch_{epoch:04d}"


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
        self.front: checkpoint.ParetoFolder | None = None
        if distributed.is_main():
            pareto = folder / "checkpoints" / "pareto"
            self.front = checkpoint.ParetoFolder(pareto, metrics, resolution=resolution)
            if resumed is not None:
                self._miss(self.front, resumed)

    @staticmethod
    def _miss(front: checkpoint.ParetoFolder, resumed: Mapping[str, Any]) -> None:
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
