"""Evaluates the front of a run, as a process of its own that can be watched and ended.

    python -m guidance.experiments.jobs.evaluating RUN '[{"splits": ["test"]}]' [MODULE ...]

The settings are those of `evaluate` in the file of an experiment; the modules add rows of one's own. What has a result already
is not evaluated again. SIGTERM ends it after the checkpoint that is being evaluated.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from guidance import cli
from guidance.config import load_config
from guidance.experiments.definition.schema import EvaluatedSettings
from guidance.experiments.evaluation import evaluate_front
from guidance.experiments.outcomes import FINISHED, UNFINISHED
from guidance.experiments.states import state_of
from guidance.runs.paths import CONFIG


def evaluate(folder: Path, settings: str) -> int:
    """The exit code: `UNFINISHED` where the run is not, such as one whose training somebody has stopped by itself."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    if state_of(folder, load_config(folder / CONFIG)).kind != FINISHED:
        return UNFINISHED
    wanted = [EvaluatedSettings.model_validate(item) for item in json.loads(settings)]
    evaluate_front(folder, wanted, stop=lambda: bool(asked))
    return 0


def main(argv: Sequence[str]) -> int:
    folder, settings, *modules = argv
    cli.set_up_logging()
    for module in modules:
        importlib.import_module(module)
    return cli.run(lambda: evaluate(Path(folder), settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
