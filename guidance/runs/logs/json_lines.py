"""`metrics.jsonl`: written line by line, read back, and mended when a run goes on."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from guidance.runs.files import finite
from guidance.runs.logs.logger import Logger

LOG = logging.getLogger(__name__)


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
        line = {"step": step} | {name: finite(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        self._lines += 1

    def flush(self) -> int:
        self._file.flush()
        return self._lines

    def close(self) -> None:
        self._file.close()


def read_log(path: str | Path) -> list[dict[str, float]]:
    """The lines that `JsonLines` wrote, null as NaN; without a last line that a kill cut short.

    Raises ValueError for another line that is no JSON object with a step.
    """
    parsed = (values for _, values in _parse(Path(path)))
    return [{name: math.nan if value is None else value for name, value in values.items()} for values in parsed]


def _parse(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The text and the content of each line."""
    lines = path.read_text(encoding="ascii", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            int(values["step"]), values.get("epoch", 0) <= math.inf  # both are there as numbers
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                return
            raise ValueError(
                f"line {number} of {path} is not a JSON object with a step: {line[:60]!r}; "
                "mend or delete the line (or the file) to resume"
            ) from error
        yield line, values


def _drop_lines_after(path: Path, step: int, epoch: float) -> int:
    """Keep the lines up to a step and an epoch; returns how many these are."""
    kept = [line for line, v in _parse(path) if int(v["step"]) <= step and v.get("epoch", 0) <= epoch]
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="ascii", errors="surrogateescape") as file:  # damaged bytes stay what they are
        file.writelines(line + "\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return len(kept)
