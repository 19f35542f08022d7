"""What each addition from outside the package goes through: training, a stop, resuming, and an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.inference import Evaluation, evaluate_in_detail
from tests.support.runs import rows

CPU = torch.device("cpu")
Lines = list[dict[str, Any]]
Go = Callable[..., tuple[Evaluation, Lines]]


def go_through(config: Config, folder: Path) -> tuple[Evaluation, Lines]:
    """Train a config of two epochs for one, go on for another, evaluate it; returns the evaluation and the lines of the log."""
    trainer = build_trainer(config, folder, CPU)
    trainer.epochs = 1
    assert trainer.fit()
    trainer.log.close()
    del trainer  # and with it the lock
    trainer = build_trainer(config, folder, CPU, resume=True)
    assert trainer.fit()
    trainer.log.close()
    return evaluate_in_detail(folder, "test"), rows(folder)


@pytest.fixture
def go(settings: Callable[..., Config], tmp_path: Path) -> Go:
    """`go_through` with a config of the tiny net on the demo set, changed by sections."""
    return lambda **sections: go_through(settings(**sections, trainer={"epochs": 2}), tmp_path / "run")
