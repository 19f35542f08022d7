"""A run to go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidance.assembly import build_trainer
from tests.support.runs import CPU, Make


@pytest.fixture
def stopped(settings: Make, tmp_path: Path) -> Path:
    """A run of one epoch, to be gone on with for two more."""
    run = tmp_path / "run"
    build_trainer(settings(trainer={"epochs": 1}, schedule={"name": "constant"}), run, CPU).fit()
    return run
