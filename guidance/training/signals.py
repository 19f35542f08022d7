"""A request to stop, as a scheduler sends it when it wants the machine back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from guidance import distributed


class StoppedWaitingError(BaseException):
    """What was waited for did not come within the patience that a stop request leaves.

    No Exception: it is raised wherever the process happens to be, and a decoder would take it for a fault of its file.
    """


class StopRequest:
    """Whether SIGTERM or SIGUSR1 arrived (a scheduler wants the machine back).

    A step is finished first. What is only waited for, such as data from a worker that hangs, is given `patience` seconds.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.received, self.patience = False, patience
        self._waiting = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._waiting and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self.patience)

    def _run_out(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            raise StoppedWaitingError

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around something that may be given up: raises StoppedWaitingError when the patience has run out."""
        self._waiting = True
        if self.received:
            self._set_alarm()
        try:
            yield
        finally:
            self._waiting = False
            if self.received and hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Install the handlers, and put the former ones back."""
        handlers = {"SIGTERM": self._receive, "SIGUSR1": self._receive, "SIGALRM": self._run_out}
        handlers = {name: handler for name, handler in handlers.items() if hasattr(signal, name)}
        former = {name: signal.signal(getattr(signal, name), handler) for name, handler in handlers.items()}
        try:
            yield self
        finally:
            for name, handler in former.items():
                signal.signal(getattr(signal, name), handler)

    def agreed(self) -> bool:
        """Whether any process was asked to stop; the same answer on all of them."""
        return distributed.max_numbers([float(self.received)])[0] > 0


def say_stopped(step: int, when: str = "") -> None:
    """Say that a signal ended a run, on the main process."""
    if distributed.is_main():
        at = f"step {step}{f', {when}' if when else ''}"
        tqdm.write(f"stopped by a signal at {at}; the checkpoint is written, go on with --resume")


def say_gave_up(step: int) -> None:
    """Say that a signal ended a run that waited for data. One process has saved; of several, some may be in a step."""
    if distributed.world_size() == 1:
        say_stopped(step, "while waiting for data")
    else:
        tqdm.write(
            f"process {distributed.rank()} was stopped by a signal while waiting for data that did not come; go on from "
            "the last checkpoint with --resume"
        )
