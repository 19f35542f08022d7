"""What the groups of an experiment are compared with: the baseline that they start from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guidance.evaluation.metrics import metric_of
from guidance.evaluation.statistics import Spread
from guidance.results.groups.epochs import ExperimentRuns, RunEpoch
from guidance.results.groups.group_fronts import GroupFront
from guidance.results.plan_file import Group
from guidance.runs.paths import epoch_name, last_checkpoint


@dataclass(frozen=True)
class Baseline:
    """The chosen epoch of each seed of a baseline."""

    group: Group
    split: str
    by: str  # the metric that is best on validation
    epochs: tuple[RunEpoch, ...]
    started_from: bool = False  # whether these are the weights that other runs start from, whatever is best

    def at(self, metric: str) -> Spread:
        """A metric over the seeds."""
        return Spread.over(epoch.metrics[self.split].get(metric, math.nan) for epoch in self.epochs)


def baselines(experiment: ExperimentRuns, fronts: Mapping[str, GroupFront]) -> tuple[Baseline, ...]:
    """The baseline of each group of baselines that has a front: an epoch of each seed.

    Where the plan says from which checkpoint runs start (`PlannedRun.weights`), it is that one: a stage may choose it by
    another metric, and a grid of learning rates is no spread. Where it only says from which run (`PlannedRun.start`), it is the
    best epoch of that, else the best of the group: by the first metric that needs no regions, such as F1 (the first of all
    where all need them), on validation.
    """
    runs, epochs = _started(experiment)
    found = []
    for group in experiment.plan.groups:
        front = fronts.get(group.name)
        if not group.baseline or front is None:
            continue
        exact = tuple(epoch for epoch in front.epochs if (epoch.run, epoch.epoch) in epochs)
        started = tuple(epoch for epoch in front.epochs if epoch.run in runs)
        chosen = GroupFront(group, front.selection, exact or started or front.epochs)
        metrics = front.selection.metrics
        metric = classification(metrics) or metrics[0]
        best = tuple(chosen.best_of(seed, metric) for seed in chosen.seeds)
        found.append(Baseline(group, front.selection.split, metric, best, bool(exact)))
    return tuple(found)


def _started(experiment: ExperimentRuns) -> tuple[set[str], set[tuple[str, int]]]:
    """The runs that others start from, and of these the epochs, where they are known."""
    last = {run.planned.name: max((epoch.epoch for epoch in run.epochs), default=0) for run in experiment.runs}
    runs, epochs = set(), set()
    for planned in (run.planned for run in experiment.runs):
        if planned.start is not None:
            runs.add(planned.start)
        if planned.start is not None and planned.weights is not None:
            numbers = range(last.get(planned.start, 0) + 1)
            named = [number for number in numbers if epoch_name(number) == planned.weights.stem]
            is_last = planned.weights.name == last_checkpoint(Path()).name
            epochs |= {(planned.start, number) for number in (named or [numbers[-1]] * is_last)}
    return runs, epochs


def classification(metrics: Iterable[str]) -> str | None:
    """The first of the metrics that needs no regions, such as F1."""
    return next((name for name in metrics if "regions" not in metric_of(name).needs), None)
