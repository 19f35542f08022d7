"""How a start of a run ended: kept beside its log, and told from it. Nothing here needs torch."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from guidance.runs.files import write_atomically

NEW, INTERRUPTED, FINISHED, CHANGED, FAILED = "new", "interrupted", "finished", "changed", "failed"
UNFINISHED = 75  # exit code (EX_TEMPFAIL) of an evaluation whose run is not trained to its end
ERROR = re.compile(r"^(error: |(\w+\.)*\w*(Error|Exception|Interrupt)\b)")


@dataclass(frozen=True)
class Outcome:
    """How one start of a run ended."""

    kind: str  # FINISHED, INTERRUPTED or FAILED
    remark: str = ""  # the error, in a line
    seconds: float = 0.0  # of training, with its preparation and its evaluations
    steps: int = 0  # done in them


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Keep it beside the log of the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(vars(outcome), indent=1) + "\n")


def read_outcome(path: Path) -> Outcome | None:
    """None where the run was not started, or is running; ValueError for a file that is none."""
    if not path.is_file():
        return None
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say how a run ended; delete it: {error}") from error


def error_line(text: str, code: int) -> str:
    """What went wrong, from what a process printed and its exit code, which is negative for a signal."""
    if code < 0:
        name = signal.Signals(-code).name
        why = ", as by the system where memory runs out" if -code == signal.SIGKILL else ""
        return f"it was ended by {name}{why}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if ERROR.match(line)]
    found = (told or lines or ["it printed nothing"])[-1]
    return f"{found.removeprefix('error: ')} (exit code {code})"


def last_step(log: Path) -> int:
    """The step of the last whole line of a metrics.jsonl; 0 where there is none."""
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
