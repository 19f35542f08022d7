"""Where the files of a run lie in its folder, and which folder was meant where there is none."""

from __future__ import annotations

import difflib
from pathlib import Path

CONFIG, ENVIRONMENT, ANNOTATED, METRICS = "config.yaml", "environment.json", "annotated.json", "metrics.jsonl"
TENSORBOARD, CHECKPOINTS, FRONT = "tensorboard", "checkpoints", "pareto"


def last_checkpoint(folder: Path) -> Path:
    """Where the checkpoint to resume from lies."""
    return folder / CHECKPOINTS / "last.pt"


def front_folder(folder: Path) -> Path:
    """Where the checkpoints of the front lie."""
    return folder / CHECKPOINTS / FRONT


def epoch_name(epoch: int) -> str:
    """What the checkpoint of a front is called, without its suffix; names sort as epochs do."""
    return f"epoch_{epoch:04d}"


def suggest_folder(path: Path) -> str:
    """ ". Did you mean ...?" with the folder whose name is closest to the first part of `path` that is not there."""
    missing = next((p for p in (*reversed(path.parents), path) if not p.exists()), path)
    if not missing.parent.is_dir():
        return ""
    names = [p.name for p in missing.parent.iterdir() if p.is_dir()]
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f". Did you mean {missing.parent / close[0]}?" if close and not missing.exists() else ""
