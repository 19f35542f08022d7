"""What an evaluation found, with everything that decides it, in a file of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidance.runs.files import finite, plain, write_atomically


def result_path(checkpoint: Path, split: str, settings: Mapping[str, Any]) -> Path:
    """Where the results of a checkpoint on a split go: `results/` of its run, or beside it where it lies in no run.

    The name ends in a digest of `settings`, so that other settings are another file and the same ones the same.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    paths = (checkpoint, checkpoint.resolve())
    folders = [parent for path in paths for parent in path.parents if parent.name == "checkpoints"]
    folder = folders[0].parent / "results" if folders else checkpoint.parent
    return folder / f"{checkpoint.stem}.{split}.{digest}.json"


def write_result(
    path: Path,
    metrics: Mapping[str, float],
    settings: Mapping[str, Any],
    *,
    significance: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write metrics and settings; NaN becomes null.

    `significance`: metric -> what says how far it can be trusted, such as the p-value and interval of a correlation (see
    `guidance.evaluation.significance`); an entry beside the metrics, which stay plain numbers.
    """
    content: dict[str, Any] = {"metrics": plain(metrics), "settings": dict(settings)}
    if significance:
        content["significance"] = {n: {k: finite(v) for k, v in found.items()} for n, found in significance.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_report(path: Path, found: Mapping[str, tuple[Mapping[str, float], Mapping[str, Any]]]) -> None:
    """Write the metrics and settings of several runs, by their names; NaN becomes null."""
    content = {run: {"metrics": plain(metrics), "settings": settings} for run, (metrics, settings) in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
