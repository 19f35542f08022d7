"""One front for each group of an experiment, over all its weights, epochs and seeds, and one for each of its seeds.

Rao et al. 2023 (Sec. 4, Fig. 4) select the non-dominated of all checkpoints of a configuration on the validation split, and
show these on the test split. So does this: what is selected (front, knee, best) is selected on validation, among the epochs
that were evaluated on the split that is shown, and the values shown are those of that split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from guidance.evaluation.metrics import bounded, oriented, worst
from guidance.evaluation.statistics import Spread
from guidance.results.fronts import undefined
from guidance.results.groups.epochs import VAL, ExperimentRuns, RunEpoch
from guidance.results.plan_file import Group
from guidance.runs.pareto import hypervolume, knee, non_dominated


@dataclass(frozen=True)
class Selection:
    """How epochs are selected, and the split on which they are shown."""

    metrics: tuple[str, ...]
    split: str = VAL
    resolution: float = 0.005

    @property
    def bounded(self) -> tuple[str, ...]:
        """The metrics that count for the hypervolume: those whose range has ends."""
        return bounded(self.metrics)

    @property
    def reference(self) -> list[float]:
        """Where the hypervolume is measured from: the worst value of each of the `bounded` metrics, turned as in `point`."""
        return worst(self.bounded)

    def point(self, epoch: RunEpoch, metrics: Sequence[str] | None = None, *, split: str | None = None) -> list[float]:
        """The epoch's values so that larger is better; of the split that is shown, and all metrics, unless others are given."""
        values = epoch.metrics[split or self.split]
        return [oriented(name, float(values[name])) for name in (self.metrics if metrics is None else metrics)]

    def is_defined(self, epoch: RunEpoch) -> bool:
        """Whether the epoch has a value of each metric, on validation and on the split that is shown."""
        return all(
            split in epoch.metrics and not undefined(epoch.metrics[split], self.metrics) for split in (VAL, self.split)
        )

    def front(self, epochs: Sequence[RunEpoch]) -> tuple[RunEpoch, ...]:
        """Those that no other dominates on validation, best first in the first metric; all must be defined."""
        points = [self.point(epoch, split=VAL) for epoch in epochs]
        chosen = sorted(non_dominated(points, self.resolution), key=lambda i: [-value for value in points[i]])
        return tuple(epochs[i] for i in chosen)

    def knee(self, front: Sequence[RunEpoch]) -> RunEpoch:
        """The balanced compromise of a front, on validation."""
        return front[knee([self.point(epoch, split=VAL) for epoch in front])]

    def best(self, epochs: Iterable[RunEpoch], metric: str) -> RunEpoch:
        """The epoch whose metric is best on validation; the earliest of equals."""
        return max(epochs, key=lambda epoch: oriented(metric, epoch.metrics[VAL][metric]))

    def volume(self, front: Sequence[RunEpoch]) -> float:
        """Hypervolume of the front's values from `reference`; NaN without a bounded metric."""
        return hypervolume([self.point(e, self.bounded) for e in front], self.reference) if self.bounded else math.nan


@dataclass(frozen=True)
class GroupFront:
    """The front of a group. `epochs`: those that have a value of each metric; never empty."""

    group: Group
    selection: Selection
    epochs: tuple[RunEpoch, ...]

    @cached_property
    def members(self) -> tuple[RunEpoch, ...]:
        """The front over all seeds, best first in the first metric."""
        return self.selection.front(self.epochs)

    @cached_property
    def seeds(self) -> Mapping[int, tuple[RunEpoch, ...]]:
        """The front of each seed, over its weights and epochs."""
        found = sorted({epoch.seed for epoch in self.epochs})
        return {seed: self.selection.front([epoch for epoch in self.epochs if epoch.seed == seed]) for seed in found}

    @cached_property
    def knee(self) -> RunEpoch:
        """Of the front over all seeds."""
        return self.selection.knee(self.members)

    @property
    def volume(self) -> float:
        """Hypervolume of the front over all seeds, which can only grow with their number."""
        return self.selection.volume(self.members)

    @property
    def volumes(self) -> Spread:
        """Hypervolume of a seed's front."""
        return Spread.over(map(self.selection.volume, self.seeds.values()))

    def at_knee(self, metric: str) -> Spread:
        """A metric at the knee of each seed's front."""
        return self._spread(metric, lambda seed: self.selection.knee(self.seeds[seed]))

    def best(self, metric: str, by: str | None = None) -> Spread:
        """A metric where it (or the metric `by`) is best on validation, of each seed."""
        return self._spread(metric, lambda seed: self.best_of(seed, by or metric))

    def best_of(self, seed: int, metric: str) -> RunEpoch:
        """The epoch of a seed whose metric is best on validation."""
        return self.selection.best((epoch for epoch in self.epochs if epoch.seed == seed), metric)

    def _spread(self, metric: str, choose: Callable[[int], RunEpoch]) -> Spread:
        split = self.selection.split
        return Spread.over(choose(seed).metrics[split].get(metric, math.nan) for seed in self.seeds)


def group_fronts(experiment: ExperimentRuns, selection: Selection) -> tuple[dict[str, GroupFront], tuple[str, ...]]:
    """The front of each group, by its name, and notes on what is left out.

    An epoch without a value (NaN) of a metric, on validation or on the split that is shown, is on no front and is named. A
    group without any other is noted and has no front. ValueError where no group has one.
    """
    fronts, notes = {}, []
    for group in experiment.plan.groups:
        epochs = [epoch for run in experiment.of(group.name) for epoch in run.epochs]
        shown = [epoch for epoch in epochs if selection.split in epoch.metrics]
        usable = tuple(epoch for epoch in shown if selection.is_defined(epoch))
        notes += _left_out([epoch for epoch in shown if not selection.is_defined(epoch)], selection)
        if usable:
            fronts[group.name] = GroupFront(group, selection, usable)
        if epochs and not shown:
            notes.append(f"{group.label}: no epoch was evaluated on {selection.split}")
        elif shown and not usable:
            notes.append(f"{group.label}: no epoch has a value of each of {', '.join(selection.metrics)}")
        notes += _not_evaluated(group, epochs, selection) if usable else []
    if not fronts:
        raise ValueError("; ".join([f"there is no front on {selection.split}", *notes]))
    return fronts, tuple(notes)


def _left_out(epochs: Sequence[RunEpoch], selection: Selection) -> list[str]:
    """What has no value, run by run."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for epoch in epochs:
        for split in dict.fromkeys((VAL, selection.split)):
            names = undefined(epoch.metrics.get(split, {}), selection.metrics)
            if names:
                found.setdefault((epoch.run, split, ", ".join(names)), []).append(str(epoch.epoch))
    return [
        f"{run}, epoch{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}: on no front, because {names} "
        f"{'have' if ', ' in names else 'has'} no value (NaN) on {split}"
        for (run, split, names), numbers in found.items()
    ]


def _not_evaluated(group: Group, epochs: Sequence[RunEpoch], selection: Selection) -> list[str]:
    """What should be on the front and was not evaluated on the split."""
    if selection.split == VAL:
        return []
    on_val = Selection(selection.metrics, VAL, selection.resolution)
    selected = on_val.front([epoch for epoch in epochs if on_val.is_defined(epoch)])
    missing = [epoch for epoch in selected if selection.split not in epoch.metrics]
    if not missing:
        return []
    first = missing[0].checkpoint or f"{missing[0].run}, epoch {missing[0].epoch}"
    return [
        f"{group.label}: {len(missing)} of the {len(selected)} epochs that validation selects were not evaluated on "
        f"{selection.split}, such as {first}; the front is over those that were"
    ]
