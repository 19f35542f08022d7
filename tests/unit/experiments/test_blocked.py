"""What is not started, and why, down to the run that failed; and being asked to stop at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from guidance.config import dump_config
from guidance.experiments.jobs.execution import SweepInterruptedError, execute
from guidance.experiments.jobs.executors import Executor, undisturbed
from guidance.experiments.jobs.work import Work
from guidance.experiments.outcomes import FAILED, FINISHED, INTERRUPTED, Outcome
from guidance.experiments.overview import ending
from guidance.experiments.planning import Planned, prepare
from tests.unit.experiments.pretended import experiment, save_checkpoint

STAGES = {
    "first": {"grid": {"optimizer.lr": [1.0, 2.0]}, "best": "f1"},
    "second": {"from": "first", "best": "f1"},
}
GROUPS = {"tuned": {"from": "second"}, "other": {}}


class Job:
    """One that has ended already."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def done(self) -> bool:
        return True

    def results(self) -> list[Outcome]:
        return [self.outcome]


def run(folder: Path, **kinds: str) -> tuple[dict[str, Outcome], str]:
    """All runs of the experiment, which finish unless `kinds`, by first_0000 for first/0000, says how they end."""
    planned = prepare(experiment(stages=STAGES, groups=GROUPS), folder)

    def make(planned: Planned, name: str, environment: Any) -> Work:
        folder = planned.run_folder(name)
        if kinds.get(name.replace("/", "_"), FINISHED) == FINISHED:
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(dump_config(planned.configs[name]))
            for place in ("last.pt", "pareto/epoch_0002.pt"):
                save_checkpoint(folder / "checkpoints" / place, epoch=2, f1=0.5)
        return Work(name, folder, planned.log(name), [])

    def submit(works: Sequence[Work]) -> list[Any]:
        found = [kinds.get(work.name.replace("/", "_"), FINISHED) for work in works]
        return [Job(Outcome(kind, "no room" if kind == FAILED else "")) for kind in found]

    ended = execute(planned, Executor(submit, lambda jobs: True, slots=1, poll=0.0), make, names=list(planned.drawn))
    return ended, ending(planned, ended)


def test_each_blocked_run_says_what_blocks_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of seed 0 a run of the first stage fails, so nothing after it is started; seed 1 goes on."""
    ended, told = run(tmp_path, first_0000=FAILED)
    assert {name for name, outcome in ended.items() if outcome.kind == FINISHED} == {
        "first/0001", "first/0002", "first/0003", "second/0001", "tuned/0001", "other/0000", "other/0001",
    }  # fmt: skip
    why = "it starts from first/0000, which failed"
    assert told.splitlines() == [
        "7 finished, 1 failed, 2 not started",
        "first/0000 failed: no room",
        f"  log: {tmp_path}/logs/first/0000.log",
        f"second/0000 was not started: {why}",
        f"tuned/0000 was not started: it starts from second/0000, which was not started ({why})",
    ]
    assert f"second/0000: not started: {why}" in capsys.readouterr().out


def test_several_blockers_and_one_that_was_interrupted(tmp_path: Path) -> None:
    _, told = run(tmp_path, first_0001=FAILED, first_0003=INTERRUPTED, second_0000=FAILED)
    assert "1 interrupted" in told
    why = "it starts from first/0001, which failed, and from first/0003, which was interrupted"
    assert f"second/0001 was not started: {why}" in told
    assert "tuned/0000 was not started: it starts from second/0000, which failed" in told


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("by_thread", [False, True])
def test_being_asked_to_stop_while_jobs_are_started_is_heard(tmp_path: Path, name: str, by_thread: bool) -> None:
    """The second job is started nevertheless, and both are known to who stops them."""
    planned = prepare(experiment(stages={}, groups={"a": {}, "b": {}}, seeds=[0]), tmp_path)
    started: list[str] = []
    stopped: list[str] = []

    def submit(works: Sequence[Work]) -> list[Any]:
        for work in works:
            started.append(work.name)
            ask = partial(os.kill, os.getpid(), getattr(signal, name))
            if by_thread:
                thread = threading.Thread(target=ask)
                thread.start()
                thread.join()
            else:
                ask()
        return [Job(Outcome(INTERRUPTED)) for _ in works]

    def stop(jobs: Mapping[str, Any]) -> bool:
        stopped.extend(jobs)
        return False

    with pytest.raises(SweepInterruptedError):
        execute(planned, Executor(submit, stop, poll=0.0), make_nothing, names=list(planned.drawn))
    assert started == stopped == ["a/0000", "b/0000"]


def make_nothing(planned: Planned, name: str, environment: Any) -> Work:
    return Work(name, planned.run_folder(name), planned.log(name), [])


def test_what_is_started_does_not_hear_ctrl_c() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with undisturbed():
        done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
