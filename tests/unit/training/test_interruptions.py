"""Runs that are killed or stopped by a signal, and resumed: they equal uninterrupted ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.runs import checkpoint
from guidance.training.trainer import Trainer
from tests.support.runs import CPU, assert_same, snapshot

pytestmark = pytest.mark.usefixtures("tiny")
Make = Callable[..., Config]
Trained = Callable[..., Path]
UNSAVED: dict[str, Any] = {"checkpoint_every": None}  # but for the end of each epoch


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def kill_at(trainer: Trainer, step: int) -> None:
    train_step = trainer._train_step

    def dying(*args: Any) -> None:
        if trainer.step == step:
            raise Killed
        train_step(*args)

    trainer._train_step = dying  # type: ignore[method-assign]


@pytest.mark.parametrize("step", [1, 3, 5, 10])
def test_killed_and_resumed_equals_uninterrupted(settings: Make, trained: Trained, tmp_path: Path, step: int) -> None:
    """Before the first checkpoint, right after one, and between two; with dropout, so that RNG states matter."""
    config = settings()
    trainer = build_trainer(config, tmp_path / "killed", CPU)
    kill_at(trainer, step)
    with pytest.raises(Killed):
        trainer.fit()
    torch.rand(7)  # another process has another random state
    assert build_trainer(config, tmp_path / "killed", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "killed"), snapshot(trained()))


@pytest.mark.parametrize("method", ["_finish_epoch", "_save"])
def test_killed_between_front_and_checkpoint(
    settings: Make, trained: Trained, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch's front member is on disk, the checkpoint that knows of it is not."""
    config = settings()
    trainer = build_trainer(config, tmp_path / "killed", CPU)
    original = getattr(trainer, method)

    def dying(*args: Any) -> Any:
        if method == "_save" and trainer.step == 8:
            raise Killed
        returned = original(*args)
        if trainer.step == 8:
            raise Killed
        return returned

    monkeypatch.setattr(trainer, method, dying)
    with pytest.raises(Killed):
        trainer.fit()
    build_trainer(config, tmp_path / "killed", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "killed"), snapshot(trained()))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_writes_a_checkpoint(settings: Make, trained: Trained, tmp_path: Path, name: str) -> None:
    config = settings(trainer=UNSAVED)
    trainer = build_trainer(config, tmp_path / "stopped", CPU)
    train_step = trainer._train_step

    def step(*args: Any) -> None:
        train_step(*args)
        if trainer.step == 6:
            os.kill(os.getpid(), getattr(signal, name))

    trainer._train_step = step  # type: ignore[method-assign]
    former = signal.getsignal(getattr(signal, name))
    assert trainer.fit() is False
    assert signal.getsignal(getattr(signal, name)) == former
    assert checkpoint.load(tmp_path / "stopped/checkpoints/last.pt")["step"] == 6
    assert build_trainer(config, tmp_path / "stopped", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "stopped"), snapshot(trained(trainer=UNSAVED)))


def test_a_signal_during_evaluation_does_not_lose_the_epoch(settings: Make, trained: Trained, tmp_path: Path) -> None:
    """The weights are saved before an evaluation, which may outlast the grace of a scheduler."""
    config = settings(trainer=UNSAVED)
    trainer = build_trainer(config, tmp_path / "killed", CPU)
    evaluate = trainer.evaluate

    def dying(step: int) -> dict[str, float]:
        if step == 8:
            raise Killed
        return evaluate(step)

    trainer.evaluate = dying
    with pytest.raises(Killed):
        trainer.fit()
    assert checkpoint.load(tmp_path / "killed/checkpoints/last.pt")["step"] == 8
    build_trainer(config, tmp_path / "killed", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "killed"), snapshot(trained(trainer=UNSAVED)))
