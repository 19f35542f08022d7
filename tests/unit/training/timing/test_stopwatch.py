"""Spans of time: exact numbers from a clock of the test, and from moments that come later, as those of a GPU do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from guidance.training.stopwatch import OTHER, SPANS, HostClock, Stopwatch, shares
from tests.support.runs import CPU


class Pretended:
    """A clock that is set; a moment has come when `done` has reached it, as in the queue of a device."""

    def __init__(self) -> None:
        self.time, self.done, self.waited = 0.0, 0.0, 0

    def now(self) -> float:
        return self.time

    def passed(self, moment: float) -> bool:
        return moment <= self.done

    def seconds(self, begin: float, end: float) -> float:
        if end > self.done:
            self.waited += 1
            self.done = end
        return end - begin


def test_every_moment_belongs_to_the_innermost_span() -> None:
    clock = Pretended()
    watch = Stopwatch(clock)
    clock.time = 1
    with watch.span("step"):
        clock.time = 3
        with watch.span("transfer"):
            clock.time = 7
        clock.time = 15
    clock.time = 31
    with suppress(KeyError), watch.span("loading"):
        clock.time = 63
        raise KeyError
    clock.time = 64
    expected = {OTHER: 1 + 16 + 1, "step": 2 + 8, "transfer": 4, "loading": 32}
    assert watch.seconds() == watch.seconds() == expected
    with watch.span("step"):
        clock.time = 74
        assert watch.seconds() == expected | {"step": 20}  # also of the span that is open
        watch.restart()
        clock.time = 75
    clock.time = 77
    assert watch.seconds() == {"step": 1, OTHER: 2}


def test_only_reading_waits_for_a_device() -> None:
    clock = Pretended()
    watch = Stopwatch(clock)
    for _ in range(100):
        with watch.span("step"):
            clock.time += 1
        with watch.span("loading"):
            clock.time += 2
        clock.done = clock.time - 6  # the device is two steps behind
    assert clock.waited == 0
    assert len(watch._laps) < 12  # what has passed is not kept
    assert watch.seconds() == {"step": 100, "loading": 200, OTHER: 0}
    assert clock.waited > 0


def test_shares_add_up_to_one() -> None:
    found = shares({"step": 6.0, "loading": 1.5, OTHER: 2.5})
    assert found["time/epoch"] == 10
    assert (found["time/step"], found["time/loading"], found["time/other"], found["time/logging"]) == (
        0.6,
        0.15,
        0.25,
        0,
    )
    assert list(found) == ["time/epoch", *(f"time/{name}" for name in (*SPANS, OTHER))]
    assert set(shares({}).values()) == {0.0}


def test_the_clock_of_the_host_goes_on() -> None:
    clock = HostClock()
    begin = clock.now()
    assert clock.passed(begin)
    assert 0 <= clock.seconds(begin, clock.now()) < 60


def test_every_epoch_of_a_run_logs_them(settings: Callable[..., Config], tmp_path: Path, tiny: None) -> None:
    trainer = build_trainer(settings(trainer={"epochs": 2}), tmp_path / "run", CPU)
    evaluate = trainer.evaluate

    def slow(step: int) -> dict[str, float]:
        clock = trainer.stopwatch.clock
        begin = clock.now()
        while clock.seconds(begin, clock.now()) < 1.0:
            pass
        return evaluate(step)

    trainer.evaluate = slow
    assert trainer.fit()
    epochs = [line for line in read_log(tmp_path / "run" / METRICS) if "epoch" in line]
    assert len(epochs) == 2
    for line in epochs:
        found = {name: value for name, value in line.items() if name.startswith("time/")}
        assert sum(value for name, value in found.items() if name != "time/epoch") == pytest.approx(1)
        assert line["time/epoch"] * line["time/evaluation"] > 1
        assert all(line[f"time/{name}"] > 0 for name in SPANS)
