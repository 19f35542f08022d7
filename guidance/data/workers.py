"""Processes that load data: what they are told when they start, and what is done about those that hang or die."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager


def leave_process_group(worker: int) -> None:
    """To be run by each worker when it starts: signals to the process group of the trainer do not reach it."""
    # Schedulers and torchrun signal a whole process group, but the trainer needs its workers until it has saved. SIGTERM
    # itself must go on working: it is how the trainer's own exit ends them.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def abandon_workers() -> None:
    """Kill the loader workers of this process, which may hang where SIGTERM does not reach: its exit would wait for them."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call their end an error
    for worker in multiprocessing.active_children():
        worker.kill()


@contextmanager
def naming_killed_workers(then: str) -> Iterator[None]:
    """Inside, the death of a loader worker is a ValueError with its likely cause and its cure, and `then`, how to go on.

    torch raises it wherever the main process happens to be, so this belongs around the whole of a training or evaluation.
    """
    try:
        yield
    except BrokenPipeError:  # of whoever read what is printed here
        raise
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter two if it was just handing over a batch
        killed = re.search(r"DataLoader worker.*?pid\D*([\d, ]+)", str(error))
        if killed is None and isinstance(error, RuntimeError):
            raise
        worker = f"a loader worker (pid {killed.group(1).strip()})" if killed else "a loader worker"
        if "Terminated" in str(error):
            raise ValueError(
                f"{worker} was ended by SIGTERM, which the main process needs alone, to save before it ends (a supervisor that "
                f"signals all processes at once can be told so: KillMode=mixed of systemd); {then}"
            ) from error
        raise ValueError(
            f"{worker} was killed, most likely because memory ran out (the machine's, or that of /dev/shm, through which "
            f"workers hand over images): lower data.num_workers, and {then}"
        ) from error
