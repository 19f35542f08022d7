"""One process, or group of processes, at a time writes into a folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO

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
