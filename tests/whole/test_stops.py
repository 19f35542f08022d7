"""What a run does when it is asked to stop, wherever it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.data import GuidanceDataset
from guidance.data.reading import decode
from guidance.data.reading.decode import read_image
from guidance.runs import checkpoint
from guidance.training.signals import StoppedWaitingError, StopRequest
from tests.support.data.pictures import write_picture
from tests.support.processes import start_forked
from tests.support.runs import assert_same, snapshot
from tests.whole.test_end_to_end import ROOT, train

CPU = torch.device("cpu")
Make = Callable[..., Config]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stop_request_does_not_wait_for_data_for_ever(
    settings: Make, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A worker hangs in the second epoch; what was done is saved, and the run goes on exactly where it was."""
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.5,))
    sections: dict[str, Any] = {"data": {"num_workers": workers}, "trainer": {"checkpoint_every": None}}
    config, whole = settings(**sections), trained(**sections)
    get, calls = GuidanceDataset.__getitem__, [0]

    def hanging(self: GuidanceDataset, key: tuple[int, int]) -> Any:
        calls[0] += self.training and key[0] == 1
        if calls[0] > 8:  # in the second batch of six
            if workers == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            else:  # as one that waits for a network file system: only SIGKILL ends it
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        return get(self, key)

    monkeypatch.setattr(GuidanceDataset, "__getitem__", hanging)
    trainer = build_trainer(config, tmp_path / "stopped", CPU)
    if workers:
        main = os.getpid()
        killer = subprocess.Popen([sys.executable, "-c", (
            "import os, signal, sys, time\nfrom pathlib import Path\n"
            "while not Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
            f"time.sleep(1); os.kill({main}, signal.SIGTERM)"
        ), str(tmp_path / "stopped/checkpoints/pareto/epoch_0001.pt")])  # fmt: skip
    start = time.monotonic()
    assert trainer.fit() is False
    assert time.monotonic() - start < 40
    if workers:
        killer.wait()
        for worker in multiprocessing.active_children():
            worker.join(10)
            assert worker.exitcode == -signal.SIGKILL
    monkeypatch.setattr(GuidanceDataset, "__getitem__", get)
    assert checkpoint.load(tmp_path / "stopped/checkpoints/last.pt")["step"] == 5
    assert build_trainer(config, tmp_path / "stopped", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "stopped"), snapshot(whole))


def test_no_decoder_takes_a_stop_for_a_fault_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without workers the alarm rings wherever the main process is: also in the middle of an image."""

    def slow(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    path = write_picture(tmp_path / "x.bmp")
    monkeypatch.setattr(decode, "_to_rgb", slow)
    with StopRequest(0.2).listening() as stop, pytest.raises(StoppedWaitingError), stop.waiting():
        read_image(path)


def test_a_stop_request_ends_an_evaluation_that_takes_too_long(
    settings: Make, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.3,))
    config, whole = settings(), trained()
    trainer = build_trainer(config, tmp_path / "stopped", CPU)
    evaluate = trainer.evaluate

    def slow(step: int) -> dict[str, float]:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return evaluate(step)

    trainer.evaluate = slow
    start = time.monotonic()
    assert trainer.fit() is False
    assert time.monotonic() - start < 20
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert build_trainer(config, tmp_path / "stopped", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "stopped"), snapshot(whole))


def test_a_stop_request_ends_the_preparation_of_data_at_once(tmp_path: Path) -> None:
    """Here while twenty thousand pictures are drawn; nothing is written that another start would trip over."""
    root = tmp_path / "data" / "demo"
    arguments = [*train(root, tmp_path / "run"), "data.num_train=20000"]
    process = start_forked(arguments, cwd=ROOT, output=tmp_path / "printed")
    while not root.parent.is_dir() or not list(root.parent.glob(".demo-*")):
        assert process.is_alive()
        time.sleep(0.05)
    start = time.monotonic()
    process.terminate()
    process.join(30)
    assert time.monotonic() - start < 5
    assert process.exitcode == -signal.SIGTERM
    assert "Traceback" not in (tmp_path / "printed.err").read_text()
    assert not root.exists()
    assert not (tmp_path / "run").exists()


def test_a_step_is_finished_however_long_it_takes(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.1,))
    trainer = build_trainer(settings(), tmp_path / "run", CPU)
    step = trainer._train_step

    def slow(*args: Any) -> None:
        if trainer.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.6)
        step(*args)

    trainer._train_step = slow  # type: ignore[method-assign]
    assert trainer.fit() is False
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 5
