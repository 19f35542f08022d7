"""What every logger takes, and several of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [H, W, 3]


class Logger:
    """Takes everything and keeps nothing: what a logger does not override, it ignores."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step, or of an epoch that ended at this step (then "epoch" is among them)."""

    def image(self, step: int, tag: str, image: Image) -> None:
        """A picture, [H, W, 3] uint8."""

    def begin(
        self, settings: Mapping[str, Any], metrics: Sequence[str], charts: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        """Before the first step: settings (dotted names), the numbers by which runs are compared, and charts of several.

        `charts`: section -> title -> names of numbers, as in `log`, that are shown in one chart.
        """

    def flush(self) -> int | None:
        """Hand everything to the operating system. Call it before a checkpoint that vouches for what was logged.

        Returns how many lines the log has, for `open_loggers` to miss what is gone; None where there are none.
        """

    def close(self) -> None:
        """Flush, and release the files."""


class Loggers(Logger):
    """Hands everything on to each of several loggers; without any it does nothing."""

    def __init__(self, loggers: Sequence[Logger] = ()) -> None:
        self._loggers = tuple(loggers)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.log(step, values)

    def image(self, step: int, tag: str, image: Image) -> None:
        for logger in self._loggers:
            logger.image(step, tag, image)

    def begin(
        self, settings: Mapping[str, Any], metrics: Sequence[str], charts: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        for logger in self._loggers:
            logger.begin(settings, metrics, charts)

    def flush(self) -> int | None:
        counts = [logger.flush() for logger in self._loggers]
        return max((count for count in counts if count is not None), default=None)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
