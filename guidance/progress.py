"""How far a loop has come: a bar on a terminal, elsewhere a line now and then, as a file of logs can bear it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 60.0  # between two lines where there is no terminal; what is done before the first of them leaves none


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if math.isnan(seconds):
        return "unknown"
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


class Progress:
    """The progress of one loop, on stderr. Use it in a `with` statement: an error then finds the cursor on a new line.

    `shown`: False for all processes but the main one. `keep`: whether the bar stays when the loop is done.
    """

    def __init__(
        self, description: str, total: int, *, unit: str, initial: int = 0, keep: bool = True, shown: bool = True
    ) -> None:
        self.description, self.total, self.done = description, total, initial
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=description, unit=unit, initial=initial, leave=keep, disable=not (shown and terminal),
            dynamic_ncols=True,
        )  # fmt: skip
        self._lines = shown and not terminal
        self._said, self._note = time.monotonic(), ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self) -> None:
        """One more is done."""
        self.done += 1
        self._bar.update()
        if self._lines and time.monotonic() - self._said > SECONDS and self.done < self.total:
            self._said = time.monotonic()
            print(f"{self.description}: {self.done} of {self.total}{self._note}", file=sys.stderr, flush=True)

    def note(self, values: dict[str, str]) -> None:
        """What else to show beside the progress, such as a loss."""
        self._bar.set_postfix(values)
        self._note = "".join(f", {name} {value}" for name, value in values.items())

    def track(self, items: Iterable[T]) -> Iterator[T]:
        """The items, counted as they are done."""
        for item in items:
            yield item
            self.update()
