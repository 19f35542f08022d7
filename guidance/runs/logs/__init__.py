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
from guidance.runs.logs.json_lines import JsonLines, read_log
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
    epochs: int = 0,
) -> Loggers:
    """The loggers of a run folder: console (see `Console` for `shown` and `epochs`), `metrics.jsonl` and `tensorboard/`.

    None on all but the main process.
    """
    if not distributed.is_main():
        return Loggers()
    folder = Path(folder)
    loggers: list[Logger] = [
        Console(shown, epochs=epochs),
        JsonLines(folder / METRICS, resume_step=resume_step, resume_epoch=resume_epoch, resume_lines=resume_lines),
    ]
    if tensorboard:
        valid, again = _of_the_last_step(folder / METRICS, resume_step)
        board = TensorBoard(folder / TENSORBOARD, purge_step=valid)
        for values in again:
            board.log(valid, {name: value for name, value in values.items() if name != "step"})
        loggers.append(board)
    return Loggers(loggers)


def _of_the_last_step(metrics: Path, step: int | None) -> tuple[int, list[dict[str, float]]]:
    """From which step on TensorBoard shall forget what a former process wrote, and what of that step was valid.

    That step and the end of its epoch have the same number. Where the epoch had not ended when the run was saved, it will be
    evaluated again: everything of the step is forgotten, and what `metrics`, from which the rest was removed, has of it is
    written again. A run without anything to resume forgets all.
    """
    if step is None:
        return 0, []
    lines = [line for line in read_log(metrics) if line["step"] == step]
    return (step + 1, []) if any("epoch" in line for line in lines) else (step, lines)
