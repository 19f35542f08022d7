"""Where numbers and pictures go: the console, a file of JSON lines, TensorBoard. All take `log(step, values)`.

`step` counts updates of the weights, everywhere. Values logged at the end of an epoch carry the number of that epoch
under "epoch"; values without it belong to a single step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from guidance import distributed
from guidance.runs.logs.console import Console
from guidance.runs.logs.json_lines import JsonLines
from guidance.runs.logs.logger import Image, Logger, Loggers
from guidance.runs.logs.tensorboard import TensorBoard
from guidance.runs.paths import METRICS, TENSORBOARD

__all__ = ["Console", "Image", "JsonLines", "Logger", "Loggers", "TensorBoard", "open_loggers"]


def open_loggers(
    folder: str | Path,
    *,
    resume_step: int | None = None,
    resume_epoch: float = math.inf,
    resume_lines: int | None = None,
    tensorboard: bool = True,
    shown: Sequence[str] = (),
) -> Loggers:
    """The loggers of a run folder: console (see `Console` for `shown`), `metrics.jsonl` and `tensorboard/`.

    None on all but the main process.
    """
    if not distributed.is_main():
        return Loggers()
    folder = Path(folder)
    loggers: list[Logger] = [
        Console(shown),
        JsonLines(folder / METRICS, resume_step=resume_step, resume_epoch=resume_epoch, resume_lines=resume_lines),
    ]
    if tensorboard:
        purge_step = None if resume_step is None else resume_step + 1
        loggers.append(TensorBoard(folder / TENSORBOARD, purge_step=purge_step))
    return Loggers(loggers)
