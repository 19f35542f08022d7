"""Which checkpoint of a stage others start from."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guidance.evaluation.metrics import oriented
from guidance.runs.front_folder import read_candidates
from guidance.runs.paths import front_folder, last_checkpoint

LOG = logging.getLogger(__name__)


class Choice(NamedTuple):
    """A checkpoint, and why."""

    run: str
    path: Path
    reason: str


def choose(folders: Mapping[str, Path], metric: str | None) -> Choice:
    """The checkpoint with the best value of a metric among the fronts of finished runs, {name: folder}.

    The metric's row says which way it is better, values are those of the checkpoints (the validation split), the earliest run
    and epoch wins a tie, and NaN is never chosen: what has it is named in a warning. `metric` None: the last checkpoint of
    the only run. ValueError where no checkpoint has a value.
    """
    if metric is None:
        ((run, folder),) = folders.items()
        return Choice(run, last_checkpoint(folder), "its last checkpoint")
    best: tuple[float, Choice] | None = None
    undefined = []
    for run, folder in folders.items():
        for saved in read_candidates(front_folder(folder)):
            value = saved.candidate.values.get(metric, math.nan)
            if math.isnan(value):
                undefined.append(f"{run} at epoch {saved.epoch}")
            elif best is None or oriented(metric, value) > best[0]:
                reason = f"{metric} {value:.4f} at epoch {saved.epoch}"
                best = oriented(metric, value), Choice(run, saved.path, reason)
    if best is None:
        raise ValueError(
            f"no checkpoint of {', '.join(folders)} has a value of {metric}, so none can be chosen to start from; "
            "name another metric in `best`"
        )
    if undefined:
        LOG.warning("%s is not defined for %s, which cannot be chosen", metric, ", ".join(undefined))
    return best[1]
