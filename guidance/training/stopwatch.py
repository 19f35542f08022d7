"""Where the time of an epoch goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

SPANS = ("step", "loading", "transfer", "evaluation", "checkpoint", "logging")
OTHER = "other"  # what is in no span
TRAINING = ("step", "loading", "transfer")  # what comes again with every step


class Clock(Protocol):
    """Moments, of any kind, and the time between two of them."""

    def now(self) -> Any: ...

    def passed(self, moment: Any) -> bool: ...

    def seconds(self, begin: Any, end: Any) -> float: ...


class HostClock:
    """The clock of the process."""

    def now(self) -> float:
        return time.perf_counter()

    def passed(self, moment: float) -> bool:
        return True

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class DeviceClock:
    """Moments in the queue of a GPU: one comes when the device has done all that was queued before it.

    So work of the host that the device does not wait for takes no time, and to ask for a moment waits for nothing; only
    `seconds` waits, for the later of its two.
    """

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def passed(self, moment: torch.cuda.Event) -> bool:
        return bool(moment.query())  # type: ignore[no-untyped-call]

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock for what a device does."""
    return DeviceClock() if device.type == "cuda" else HostClock()


class Stopwatch:
    """Seconds in named spans. Every moment belongs to one of them, the innermost that is open, or to OTHER."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._laps: deque[tuple[str, Any, Any]] = deque()  # that are not yet in `_seconds`
        self._seconds: dict[str, float] = {}
        self._open, self._since = OTHER, clock.now()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """What is done within takes time of `name`, and none of the span around it."""
        around = self._open
        self._switch(name)
        try:
            yield
        finally:
            self._switch(around)

    def seconds(self) -> dict[str, float]:
        """Of each span that had any since the last `restart`, also of the one that is open. Waits for the device."""
        self._switch(self._open)
        while self._laps:
            self._add()
        return dict(self._seconds)

    def restart(self) -> None:
        """Count from now on."""
        self.seconds()
        self._seconds = {}

    def _switch(self, name: str) -> None:
        now = self.clock.now()
        self._laps.append((self._open, self._since, now))
        self._open, self._since = name, now
        while self._laps and self.clock.passed(self._laps[0][2]):
            self._add()

    def _add(self) -> None:
        name, begin, end = self._laps.popleft()
        self._seconds[name] = self._seconds.get(name, 0.0) + self.clock.seconds(begin, end)


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """For the log: "time/epoch" in seconds, and what each span is of it; these add up to 1."""
    total = sum(seconds.values())
    return {"time/epoch": total} | {
        f"time/{name}": seconds.get(name, 0.0) / total if total else 0.0 for name in (*SPANS, OTHER)
    }
