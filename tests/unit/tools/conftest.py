"""Runs to select from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.runs.checkpoint import save
from tests.support.checkpoints import write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Baseline: good F1; guided: one member far better localised; the guided second epoch is dominated."""
    write_run(tmp_path / "runs/baseline/checkpoints/pareto", (0.9, 0.2, 0.1), (0.8, 0.3, 0.1))
    write_run(tmp_path / "runs/guided/checkpoints/pareto", (0.85, 0.7, 0.5), (0.85, 0.699, 0.4), (0.2, 0.8, 0.6))
    save(
        tmp_path / "runs/guided/checkpoints/last.pt",
        {"config": {}, "classes": [], "model": {"w": torch.zeros(1)}, "metrics": None, "epoch": 1, "step": 1},
    )
    return tmp_path / "runs"
