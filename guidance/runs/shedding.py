"""What a finished run can do without: the state of its optimizer, and the second copy of its last weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from guidance.runs.checkpoint import SUFFIX, TEMPORARY, load, read, save
from guidance.runs.paths import epoch_name, front_folder, last_checkpoint

KEPT = ("epoch", "position", "step", "best")  # of the state of the training: how far it came, and why it ended there
SHED = "shed"


def is_shed(state: Mapping[str, Any]) -> bool:
    """Whether a last checkpoint holds weights and metrics only, so that no run can go on from it."""
    trainer = state.get("trainer")
    return isinstance(trainer, dict) and trainer.get(SHED) is True


def shed(folder: Path) -> None:
    """Take out of the finished run in `folder` what only training on needs: with Adam two thirds of checkpoints/last.pt.

    Weights, metrics, config and classes stay, in full precision. Where the front has a checkpoint of the same epoch with the
    same weights, both names become one file (a hard link; two files where the file system has none). After a kill at any
    moment each name has a whole checkpoint, and the next call does the rest; a call too many does nothing. The caller holds
    the lock of the folder. ValueError for a damaged checkpoint, which is left as it is, OSError where there is no room.
    """
    last = last_checkpoint(folder)
    if not is_shed(read(last, verify=False)):
        state = load(last)  # its checksums too, because the new file would have right ones
        trainer = state.get("trainer")
        kept = {name: trainer[name] for name in KEPT if name in trainer} if isinstance(trainer, dict) else {}
        save(last, state | {"trainer": kept | {SHED: True}})
    state = read(last, verify=False)
    twin = front_folder(folder) / f"{epoch_name(state['epoch'])}{SUFFIX}"
    if not twin.is_file() or twin.samefile(last) or not _alike(state, read(twin, verify=False)):
        return
    temporary = twin.with_name(twin.name + TEMPORARY)
    temporary.unlink(missing_ok=True)  # of a call that was killed
    with suppress(OSError):  # some file systems have no hard links
        os.link(last, temporary)
        os.replace(temporary, twin)


def _alike(last: Mapping[str, Any], twin: Mapping[str, Any]) -> bool:
    """Whether two checkpoints are the same to whoever evaluates them or starts from them."""
    if any(_text(last[name]) != _text(twin[name]) for name in ("epoch", "step", "config", "classes", "metrics")):
        return False
    first, second = last["model"], twin["model"]
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def _text(value: Any) -> str:
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)  # NaN is as NaN


def disk_use(folder: Path) -> int:
    """Bytes of the files below `folder`; what has several names counts once."""
    found: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it has just been replaced
            status = path.lstat()
            if path.is_file():
                found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())
