"""What the groups of an experiment are compared with: the baseline that they start from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from guidance.evaluation.metrics import metric_of
from guidance.results.groups.epochs import ExperimentRuns, RunEpoch
from guidance.results.groups.group_fronts import GroupFront, Spread
from guidance.results.plan_file import Group


@dataclass(frozen=True)
class Baseline:
    """The chosen epoch of each seed of a baseline."""

    group: Group
    split: str
    by: str  # the metric that is best on validation
    epochs: tuple[RunEpoch, ...]

    def at(self, metric: str) -> Spread:
        """A metric over the seeds."""
        return Spread.over(epoch.metrics[self.split].get(metric, math.nan) for epoch in self.epochs)


def baselines(experiment: ExperimentRuns, fronts: Mapping[str, GroupFront]) -> tuple[Baseline, ...]:
    """The baseline of each group of baselines that has a front: of each seed the epoch that classifies best on validation.

    By the first metric that needs no regions, such as F1 (the first of all where all need them).

    Where runs say which run they start from (`PlannedRun.start`), only those of a group count that any starts from: a grid of
    learning rates is no spread.
    """
    starts = {run.planned.start for run in experiment.runs}
    found = []
    for group in experiment.plan.groups:
        front = fronts.get(group.name)
        if not group.baseline or front is None:
            continue
        started = [epoch for epoch in front.epochs if epoch.run in starts]
        chosen = GroupFront(group, front.selection, tuple(started)) if started else front
        metrics = front.selection.metrics
        metric = classification(metrics) or metrics[0]
        best = tuple(chosen.best_of(seed, metric) for seed in chosen.seeds)
        found.append(Baseline(group, front.selection.split, metric, best))
    return tuple(found)


def classification(metrics: Iterable[str]) -> str | None:
    """The first of the metrics that needs no regions, such as F1."""
    return next((name for name in metrics if "regions" not in metric_of(name).needs), None)
