"""Where numbers and pictures go: the console, a file of JSON lines, TensorBoard. All take `log(step, values)`.

`step` counts updates of the weights, everywhere. Values logged at the end of an epoch carry the number of that epoch
under "epoch"; values without it belong to a single step.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from guidance import distributed

LOG = logging.getLogger(__name__)
Image = NDArray[np.uint8]  # [H, W, 3]
Setting = bool | int | float | str | None


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


class Console(Logger):
    """One line per epoch, above the progress bars. Values of single steps are the bar's own business.

    `shown`: the names to print, in this order, where they have a value; empty prints all of them.
    """

    def __init__(self, shown: Sequence[str] = ()) -> None:
        self._shown = tuple(shown)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if "epoch" not in values:
            return
        names = [n for n in self._shown if not math.isnan(values.get(n, math.nan))] if self._shown else values
        shown = [f"{name} {_short(values[name])}" for name in names if name != "epoch"]
        tqdm.write(f"epoch {values['epoch']:g} (step {step}): " + "  ".join(shown))


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


class JsonLines(Logger):
    """One JSON object per line, `{"step": 120, "train/loss": 0.51, ...}`; a value that is not finite becomes null.

    `resume_step`: go on with the file of a run that was resumed at this step, after `resume_epoch` whole epochs. Lines
    beyond them are removed, because they will be written again, and so is a last line that a kill cut short. None
    starts the file anew. `resume_lines`: how many there were then; that some are gone is told.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resume_step: int | None = None,
        resume_epoch: float = math.inf,
        resume_lines: int | None = None,
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = 0
        if resume_step is not None and path.exists():
            self._lines = _drop_lines_after(path, resume_step, resume_epoch)
        if resume_lines is not None and self._lines < resume_lines:
            LOG.warning(
                "%s has %d lines up to the step that is resumed, but it had %d: the others are lost, and the log goes on "
                "without them", path, self._lines, resume_lines,
            )  # fmt: skip
        self._file: IO[str] = open(path, "w" if resume_step is None else "a", encoding="ascii")  # noqa: SIM115

    def log(self, step: int, values: Mapping[str, float]) -> None:
        line = {"step": step} | {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        self._lines += 1

    def flush(self) -> int:
        self._file.flush()
        return self._lines

    def close(self) -> None:
        self._file.close()


def _finite(value: float) -> int | float | None:
    if isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _drop_lines_after(path: Path, step: int, epoch: float) -> int:
    """Keep the lines up to a step and an epoch; returns how many these are."""
    lines = path.read_text(encoding="ascii", errors="surrogateescape").splitlines()
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            done = int(values["step"]) <= step and values.get("epoch", 0) <= epoch
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(
                f"line {number} of {path} is not a JSON object with a step: {line[:60]!r}; "
                "mend or delete the line (or the file) to resume"
            ) from error
        if done:
            kept.append(line)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="ascii", errors="surrogateescape") as file:  # damaged bytes stay what they are
        file.writelines(line + "\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return len(kept)


class TensorBoard(Logger):
    """Scalars, pictures and settings as TensorBoard event files in one folder.

    `purge_step`: hide events of this step and later ones, which a former process wrote before the run was resumed (the
    step resumed at, plus 1). ValueError if the package is not installed.
    """

    def __init__(self, folder: str | Path, *, purge_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "logging to TensorBoard needs the package tensorboard: run `pip install tensorboard`, or switch it off "
                f"with `--set log.tensorboard=false` ({error})"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)
        self._step = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._step = step
        for name, value in values.items():
            if not math.isnan(value):  # a chart without a point is only in the way
                self._writer.add_scalar(_tag(name), value, step)
        if "epoch" in values:
            self._writer.flush()

    def image(self, step: int, tag: str, image: Image) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {tag!r} is {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3]")
        self._writer.add_image(tag, image, step, dataformats="HWC")

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Settings and results for the HPARAMS tab; the results are scalars "hparams/<metric>" at the last step.

        SummaryWriter.add_hparams makes a folder for another run at each call; this writes into the run itself.
        """
        from torch.utils.tensorboard.summary import hparams

        settings = {name: _setting(value) for name, value in config.items() if value is not None}
        results = {f"hparams/{name}": float(value) for name, value in metrics.items() if not math.isnan(value)}
        writer = self._writer._get_file_writer()
        for summary in hparams(settings, results):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        for name, value in results.items():
            self._writer.add_scalar(name, value, self._step)

    def flush(self) -> int | None:
        self._writer.flush()
        return None

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """The name of a chart. Charts are grouped by what stands before the first slash: one of each class gets its own group."""
    section, *rest = name.split("/", 2)
    return f"{section}_{'/'.join(rest)}" if len(rest) == 2 else name


def _setting(value: Any) -> Setting:
    # The table of settings would show a bool as 0 or 1, and takes no lists.
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


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
        JsonLines(
            folder / "metrics.jsonl", resume_step=resume_step, resume_epoch=resume_epoch, resume_lines=resume_lines
        ),
    ]
    if tensorboard:
        purge_step = None if resume_step is None else resume_step + 1
        loggers.append(TensorBoard(folder / "tensorboard", purge_step=purge_step))
    return Loggers(loggers)


def report_error(error: Exception) -> int:
    """Tell a user's mistake without a traceback, which GUIDANCE_TRACEBACK=1 shows; returns the exit code."""
    if os.environ.get("GUIDANCE_TRACEBACK"):
        raise error
    if not isinstance(error, distributed.ToldError):
        print(f"error: {error}", file=sys.stderr, flush=True)
        file = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if file:  # torchrun ends with a page about its processes; this puts the reason on its last lines
            shown = {"py_callstack": f"error: {error}", "timestamp": str(int(time.time()))}
            content = {"message": {"message": str(error), "errorCode": 2, "extraInfo": shown}}
            with contextlib.suppress(OSError):
                Path(file).write_text(json.dumps(content))
    return 2
