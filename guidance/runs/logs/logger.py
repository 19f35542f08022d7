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

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The settings of the run (dotted names) and its results."""

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

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.hparams(config, metrics)

    def flush(self) -> int | None:
        counts = [logger.flush() for logger in self._loggers]
        return max((count for count in counts if count is not None), default=None)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
