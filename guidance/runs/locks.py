"""One process, or group of processes, at a time writes into a folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import IO

from guidance import distributed
from guidance.runs.environment import environment
from guidance.runs.files import write_atomically
from guidance.runs.paths import CONFIG, ENVIRONMENT

LOG = logging.getLogger(__name__)
NAME = ".lock"
HELD = (errno.EACCES, errno.EAGAIN)


def lock_folder(folder: Path) -> IO[str] | None:
    """Lock `folder` until the returned file is closed, or this process ends in whatever way.

    Raises ValueError that names the process which holds it. The lock is a record lock of the operating system on
    `folder`/.lock: it goes with its process, also when that is killed, and loader workers do not inherit it. It holds between
    machines where a network file system carries such locks (NFS 4 does, NFS 3 with its lock daemon). None, with a warning,
    where the file system has no locks: there nothing keeps two processes apart.
    """
    file = open(folder / NAME, "a+", encoding="utf-8")  # noqa: SIM115 (it stays open)
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        holder = _holder(file)
        file.close()
        if getattr(error, "errno", None) in HELD:
            raise ValueError(
                f"{folder} is in use by {holder}; wait until it has ended, or choose another folder with --output"
            ) from error
        LOG.warning("%s cannot be locked (%s): see to it yourself that only one run writes there", folder, error)
        return None
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    file.flush()
    return file


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        who = json.loads(file.read())
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


class RunLock:
    """Keeps other processes out of a run folder until it is garbage, or its process ends in whatever way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None
        self._taken = False

    def claim(self, *, resume: bool) -> None:
        """Lock the folder if it holds a run.

        Raises ValueError, on every process, rather than touch another run's results, or a run that another process goes on
        with. A collective call, to be made before anything slow.
        """
        distributed.main_does(partial(self._claim, resume=resume))

    def prepare(self, config_text: str) -> None:
        """Create the folder, lock it, and write what identifies the run. A collective call."""
        distributed.main_does(partial(self._prepare, config_text))

    def _claim(self, *, resume: bool) -> None:
        if not (self.folder / CONFIG).exists():
            return
        if not resume:
            raise ValueError(
                f"{self.folder} already holds a run; add --resume to go on with it, or choose another folder with --output"
            )
        self._take()

    def _prepare(self, config_text: str) -> None:
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not self._taken:  # there was no run when this process looked
            self._take()
            if (self.folder / CONFIG).exists():
                raise ValueError(
                    f"another process has started a run in {self.folder} while this one prepared its own; go on with that "
                    "one by --resume, or choose another folder with --output"
                )
        write_atomically(self.folder / CONFIG, config_text)
        if not (self.folder / ENVIRONMENT).exists():
            write_atomically(self.folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")

    def _take(self) -> None:
        if not self._taken:  # opening and closing the file a second time would give the lock away
            self._file = lock_folder(self.folder)
            self._taken = True
