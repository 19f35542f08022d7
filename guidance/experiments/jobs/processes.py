"""Processes that are watched: ended with their watcher, waited for, known by their locks. Nothing here needs torch."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def ended_with_parent() -> Callable[[], None] | None:
    """What a new process calls to get SIGTERM when its parent has ended, in whatever way; None where there is no such call.

    A session of its own keeps it from the signals of ours, so without this it would outlive a watcher that is killed.
    """
    if sys.platform != "linux":
        return None
    prctl, watcher = ctypes.CDLL(None).prctl, os.getpid()  # after the fork there is no time to look for it

    def call() -> None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != watcher:
            os.kill(os.getpid(), signal.SIGTERM)

    return call


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a run, see `guidance.runs.locks`, which needs torch."""
    with suppress(ImportError, OSError), open(path, "r+b") as file:
        import fcntl

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


def wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process has ended by then. It takes no lock of `Popen`, which who was interrupted may hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.1)
    return False
