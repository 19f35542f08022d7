"""Checkpoints and fronts of few numbers, what was selected from them, and Python in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch

from guidance.runs.checkpoint import save
from guidance.runs.front_folder import ParetoFolder


def state(**changes: Any) -> dict[str, Any]:
    full = {"config": {"optimizer": {"lr": 0.1}}, "classes": ["a"], "model": {"weight": torch.arange(4.0)}}
    return full | {"metrics": None, "epoch": 1, "step": 10} | changes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_script(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=100)
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
