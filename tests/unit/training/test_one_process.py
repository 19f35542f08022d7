"""A run folder belongs to one process at a time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from guidance.assembly import build_trainer
from guidance.runs.folder import RunLock
from guidance.runs.locks import lock_folder
from tests.support.processes import fork_server
from tests.support.runs import CPU, Make, assert_same, resume, snapshot


def hold(folder: Path, *, child: bool = False) -> tuple[Any, int]:
    """A process that locks the folder, and the id of its child, if it is to have one."""
    told, tell = fork_server().Pipe(duplex=False)
    process = fork_server().Process(target=_held, args=(folder, child, tell))
    process.start()
    assert told.poll(120)
    return process, told.recv()


def _held(folder: Path, child: bool, tell: Any) -> None:
    lock = lock_folder(folder)
    number = os.fork() if child else 0
    if number or not child:
        tell.send(number)
    time.sleep(600)
    del lock


def test_a_folder_belongs_to_one_process_until_it_ends(settings: Make, stopped: Path) -> None:
    before = (stopped / "metrics.jsonl").read_bytes()
    process, _ = hold(stopped)
    try:
        with pytest.raises(
            ValueError, match=rf"in use by process {process.pid} on .*, since .*; wait until it has ended"
        ):
            resume(settings, stopped)
        assert (stopped / "metrics.jsonl").read_bytes() == before
    finally:
        process.kill()
        process.join()
    resume(settings, stopped)
    assert (stopped / "metrics.jsonl").read_bytes().startswith(before)


def test_a_run_that_began_meanwhile_is_left_alone(settings: Make, tmp_path: Path) -> None:
    """Two processes find the folder empty; the one that was slower to prepare must not write over the other's run."""
    folder = tmp_path / "run"
    slower = RunLock(folder)
    slower.claim(resume=True)
    assert build_trainer(settings(), folder, CPU).fit()
    before = snapshot(folder)
    with pytest.raises(
        ValueError, match=r"another process has started a run in .*run while this one prepared its own; go on"
    ):
        slower.prepare("other: config")
    assert_same(snapshot(folder), before)


def test_children_of_a_killed_process_do_not_hold_its_lock(tmp_path: Path) -> None:
    """Loader workers live on for seconds after a kill; a lock that they inherit would live as long."""
    process, child = hold(tmp_path, child=True)
    process.kill()
    process.join()
    try:
        lock = lock_folder(tmp_path)
        assert lock is not None
        lock.close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    assert lock_folder(tmp_path) is None
    assert "cannot be locked" in caplog.text
    assert "only one run writes there" in caplog.text
