"""How much a run trains on, and how long its steps may take, from what other runs took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from guidance.assembly import build_source
from guidance.config import Config
from guidance.experiments.outcomes import Outcome
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS

RATE = "step/images_per_second"


class Split(NamedTuple):
    """How much there is to train on."""

    images: int
    classes: int


def training_splits() -> Callable[[Config], Split | str]:
    """What gives the training split of a run, or says why it is not known; it reads each once."""
    found: dict[str, Split | str] = {}

    def split(config: Config) -> Split | str:
        key = config.data.model_dump_json()
        if key not in found:
            found[key] = _read_split(config)
        return found[key]

    return split


def _read_split(config: Config) -> Split | str:
    root = config.data.root
    if not root.is_dir():
        return f"the data are not at {root}"  # some sets would be generated there
    try:
        source = build_source(config, config.data.train_split)
        return Split(len(source.records), len(source.classes))
    except (ValueError, OSError) as error:
        return str(error).splitlines()[0]


def seconds_per_step(folder: Path, config: Config, outcome: Outcome | None) -> float:
    """What a step of a run took: all its time by its steps, else by the speed in its log, without evaluations; NaN: unknown."""
    if outcome is not None and outcome.steps > 0 and outcome.seconds > 0:
        return outcome.seconds / outcome.steps
    log = folder / METRICS
    rates = [line[RATE] for line in read_log(log) if line.get(RATE, 0) > 0] if log.is_file() else []
    return config.trainer.batch_size / fmean(rates) if rates else math.nan


def expected_pace(own: float, group: Sequence[float], all_: Sequence[float]) -> float:
    """Seconds of a step of a run: its own, else the mean of its group's, else of the whole experiment's; NaN: unknown."""
    for known in ([own], group, all_):
        values = [value for value in known if not math.isnan(value)]
        if values:
            return fmean(values)
    return math.nan


def paces(
    folders: Mapping[str, Path], configs: Mapping[str, Config], outcomes: Mapping[str, Outcome | None]
) -> dict[str, float]:
    """Seconds of a step of each run, NaN where it was never started."""
    return {name: seconds_per_step(folder, configs[name], outcomes.get(name)) for name, folder in folders.items()}
