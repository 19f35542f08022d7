"""A run to go on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def stopped(trained: Callable[..., Path], tiny: None, tmp_path: Path) -> Path:
    """A run of one epoch, to be gone on with for two more."""
    run = trained(trainer={"epochs": 1}, schedule={"name": "constant"})
    return Path(shutil.copytree(run, tmp_path / "run"))
