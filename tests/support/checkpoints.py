"""Checkpoints and fronts of few numbers, what was selected from them, and Python in a process of its own."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from guidance.results.files import result_path, write_result
from guidance.runs.checkpoint import save
from guidance.runs.files import finite
from guidance.runs.front_folder import ParetoFolder
from guidance.runs.settings import flatten
from tests.support.processes import run_forked


def state(**changes: Any) -> dict[str, Any]:
    full = {"config": {"optimizer": {"lr": 0.1}}, "classes": ["a"], "model": {"weight": torch.arange(4.0)}}
    return full | {"metrics": None, "epoch": 1, "step": 10} | changes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_script(script: str, folder: Path, *arguments: str) -> str:
    """What it prints, in a process of its own that has imported torch and this package; its files are put into `folder`."""
    folder.mkdir()
    place = folder / "script.py"
    place.write_text(textwrap.dedent(script))
    done = run_forked([str(place), *arguments], cwd=Path(__file__).parents[2], output=folder / "printed")
    assert done.returncode == 0, done.stderr
    return done.stdout


METRICS = ("f1", "epg", "iou")


def offer(folder: ParetoFolder, name: str, values: tuple[float, ...], epoch: int = 0) -> bool:
    metrics = dict(zip(METRICS, values, strict=True)) | {"map": 0.1}
    return folder.offer(name, metrics, lambda: state(epoch=epoch, model={"weight": torch.tensor(values)}))


def write_run(folder: Path, *rows: tuple[float, ...], config: dict[str, Any] | None = None) -> Path:
    """One checkpoint per row of f1, epg, iou; epochs count from 1."""
    for epoch, row in enumerate(rows, start=1):
        metrics = dict(zip(("f1", "epg", "iou"), row, strict=True)) | {"map": 0.5}
        content = {"config": config or {}, "classes": [], "model": {"weight": torch.zeros(2)}, "metrics": metrics}
        save(folder / f"epoch_{epoch:04d}.pt", content | {"epoch": epoch, "step": 10 * epoch})
    return folder


def front(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "front.json").read_text())


def write_epochs(
    folder: Path,
    rows: Sequence[Sequence[float]],
    *,
    config: dict[str, Any] | None = None,
    metrics: Sequence[str] = ("f1", "epg", "iou"),
    saved: Collection[int] = (),
    tests: Mapping[int, Sequence[float]] | None = None,
    speed: float = 100.0,
) -> Path:
    """The folder of a run without a net: metrics.jsonl with a line per row, config.yaml, checkpoints of the epochs that are
    `saved`, and the results of the epochs in `tests` on the test split.
    """
    settings = config or {}
    lines: list[dict[str, Any]] = []
    for epoch, row in enumerate(rows, start=1):
        lines.append({"step": 10 * epoch - 5, "step/images_per_second": finite(speed)})
        lines.append({"step": 10 * epoch, "epoch": epoch, "train/annotated": 0.5}
                     | {f"val/{name}": finite(value) for name, value in zip(metrics, row, strict=True)})  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    for epoch in saved:
        values = dict(zip(metrics, map(float, rows[epoch - 1]), strict=True))
        content = {"config": settings, "classes": [], "model": {"weight": torch.zeros(2)}, "metrics": values}
        place = folder / f"checkpoints/pareto/epoch_{epoch:04d}.pt"
        save(place, content | {"epoch": epoch, "step": 10 * epoch})
    for epoch, row in (tests or {}).items():
        write_evaluation(folder, epoch, dict(zip(metrics, row, strict=True)), config=settings)
    return folder


def write_evaluation(
    folder: Path,
    epoch: int,
    values: Mapping[str, float],
    *,
    config: dict[str, Any],
    split: str = "test",
    **settings: Any,
) -> Path:
    """A file of results/, as launch/evaluate.py writes it."""
    content = {
        "split": split,
        "epoch": epoch,
        "step": 10 * epoch,
        "iou_threshold": 0.5,
        "config": flatten(config),
    } | settings
    path = result_path(folder / f"checkpoints/pareto/epoch_{epoch:04d}.pt", split, content)
    write_result(path, values, content)
    return path
