"""The loggers of a run, together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidance import distributed
from guidance.runs.logs import Console, Logger, Loggers, open_loggers
from guidance.runs.logs.json_lines import read_log
from tests.support.runs import events


def test_console_prints_epochs_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.log(5, {"step/loss": 0.123456})
    assert capsys.readouterr().out == ""
    console.log(40, {"epoch": 2, "train/loss": 0.123456, "val/f1": 0.8, "val/epg": float("nan"), "all": 640})
    assert capsys.readouterr().out == "epoch 2 (step 40): train/loss 0.1235  val/f1 0.8  val/epg nan  all 640\n"


def test_console_says_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(["val/f1"], epochs=5)
    for epoch in (1, 5, 6):
        console.log(40, {"epoch": epoch, "val/f1": 0.8, "time/epoch": 45.2})
    console.log(40, {"epoch": 2, "val/f1": 0.8})
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1 (step 40): val/f1 0.8  (45 s; about 3 min to go)",
        "epoch 5 (step 40): val/f1 0.8",
        "epoch 6 (step 40): val/f1 0.8",
        "epoch 2 (step 40): val/f1 0.8",
    ]


class Recorder(Logger):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def log(self, step: int, values: Any) -> None:
        self.calls.append("log")

    def image(self, step: int, tag: str, image: Any) -> None:
        self.calls.append("image")

    def begin(self, settings: Any, metrics: Any, charts: Any) -> None:
        self.calls.append("begin")

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def call_all(log: Logger) -> None:
    log.log(1, {"a": 1.0})
    log.image(1, "x", np.zeros((1, 1, 3), dtype=np.uint8))
    log.begin({}, [], {})
    log.flush()
    log.close()


def test_several_loggers_and_none() -> None:
    recorders = [Recorder(), Recorder()]
    call_all(Loggers([recorders[0], Logger(), recorders[1]]))
    assert [recorder.calls for recorder in recorders] == [["log", "image", "begin", "flush", "close"]] * 2
    call_all(Loggers())
    call_all(Console())


def test_loggers_of_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for resume_step, values in ((None, (1.0, 2.0, 3.0)), (1, (20.0, 30.0))):
        log = open_loggers(tmp_path, resume_step=resume_step)
        for step, value in enumerate(values, start=1 if resume_step is None else resume_step + 1):
            log.log(step, {"loss": value})
        log.close()
    assert [line["loss"] for line in read_log(tmp_path / "metrics.jsonl")] == [1.0, 20.0, 30.0]
    assert [event.value for event in events(tmp_path / "tensorboard").Scalars("loss")] == [1.0, 20.0, 30.0]

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    call_all(open_loggers(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_tensorboard_can_be_left_out(tmp_path: Path) -> None:
    call_all(open_loggers(tmp_path, tensorboard=False))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
