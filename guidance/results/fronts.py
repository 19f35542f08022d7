"""One Pareto front over the checkpoints of several runs (see `reading.read_runs`)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from guidance.evaluation.metrics import bounded, is_known, metric_of, worst
from guidance.runs.front_folder import Saved
from guidance.runs.pareto import ParetoFront, hypervolume, knee, non_dominated


def defined(metrics: Sequence[str], runs: Mapping[str, Sequence[Saved]]) -> list[str]:
    """The metrics that any checkpoint has a value of; says which are left out. ValueError if none is left."""
    values = [saved.candidate.values for checkpoints in runs.values() for saved in checkpoints]
    empty = [m for m in metrics if all(m in found and math.isnan(found[m]) for found in values)]
    if len(empty) == len(metrics):
        raise ValueError(
            f"no checkpoint has a value of {', '.join(metrics)}, so there is no front; choose others with --metrics"
        )
    unknown = [metric for metric in metrics if not is_known(metric)]
    if unknown:
        print(
            f"{', '.join(unknown)}: no table knows which way it is better, so higher counts as better; name the module "
            "that adds it to METRICS with --import", file=sys.stderr,
        )  # fmt: skip
    if empty:
        hint = (
            "; EPG and IoU need images with a region of the kind evaluation.region"
            if any("regions" in metric_of(m).needs for m in empty)
            else ""
        )
        print(f"without {', '.join(empty)}: no checkpoint has a value{hint}", file=sys.stderr)
    return [metric for metric in metrics if metric not in empty]


def merge(runs: Mapping[str, Sequence[Saved]], metrics: Sequence[str], resolution: float) -> MergedFront:
    """One front over all runs. ValueError, naming the run, for a checkpoint without one of the metrics.

    A checkpoint whose value of one of them is NaN is not on the front, whatever the others are (see `undefined`): what is
    not known is no reason to select a net. ValueError where none is left.
    """
    row = ParetoFront(metrics, resolution=resolution).row
    pool, points = [], []
    for run, checkpoints in runs.items():
        for saved in checkpoints:
            try:
                point = row(saved.candidate)
            except ValueError as error:
                raise ValueError(f"run {run}: {error} Choose among them with --metrics.") from error
            if not any(map(math.isnan, point)):
                pool.append((run, saved))
                points.append(point)
    if not points:
        raise ValueError(
            f"no checkpoint has a value of each of {', '.join(metrics)}, so there is no front; choose fewer with --metrics"
        )
    front = sorted(non_dominated(points, resolution), key=lambda i: [-value for value in points[i]])
    balanced = knee([points[i] for i in front])
    members = [
        Member(*pool[i], is_knee=place == balanced, evaluated={}, evaluated_with={}) for place, i in enumerate(front)
    ]
    return MergedFront(runs, tuple(members), tuple(metrics), resolution)


def undefined(values: Mapping[str, float], metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics of a front that are NaN, or absent, in `values`: what has any is on no front of several runs."""
    return tuple(metric for metric in metrics if math.isnan(values.get(metric, math.nan)))


class Member(NamedTuple):
    """A checkpoint of the merged front."""

    run: str
    saved: Saved
    is_knee: bool
    evaluated: Mapping[str, float]  # "test_f1": 0.8, ...; empty unless evaluated
    evaluated_with: Mapping[str, Any]  # the settings of that evaluation


@dataclass(frozen=True)
class MergedFront:
    """The front over the checkpoints of several runs."""

    runs: Mapping[str, Sequence[Saved]]  # every checkpoint, also those that are not on the front
    members: tuple[Member, ...]  # best first in the first metric
    metrics: tuple[str, ...]
    resolution: float

    @property
    def bounded(self) -> tuple[str, ...]:
        """The metrics that can count for the hypervolume: those whose range has ends."""
        return bounded(self.metrics)

    @property
    def reference(self) -> list[float]:
        """The worst value of each of the `bounded` metrics, turned so that larger is better."""
        return worst(self.bounded)

    @property
    def volume(self) -> float:
        """The hypervolume from `reference`, over the `bounded` metrics; NaN without any."""
        if not self.bounded:
            return math.nan
        points = [ParetoFront(self.bounded).row(member.saved.candidate) for member in self.members]
        return hypervolume(points, self.reference)

    @property
    def left_out(self) -> tuple[tuple[str, Saved, tuple[str, ...]], ...]:
        """(run, checkpoint, metrics): the checkpoints that are not on the front because they have no value of these."""
        pool = [(run, saved) for run, checkpoints in self.runs.items() for saved in checkpoints]
        found = [(run, saved, undefined(saved.candidate.values, self.metrics)) for run, saved in pool]
        return tuple(each for each in found if each[2])

    @property
    def knee(self) -> Member:
        """The member nearest to the ideal point."""
        return next(member for member in self.members if member.is_knee)

    def evaluate(
        self, split: str, evaluate: Callable[[Saved], tuple[Mapping[str, float], Mapping[str, Any]]]
    ) -> MergedFront:
        """The front with what `evaluate` finds on a split, its metrics and settings: added as `<split>_<metric>`."""
        done = []
        for member in self.members:
            metrics, settings = evaluate(member.saved)
            values = {f"{split}_{name}": float(value) for name, value in metrics.items()}
            done.append(member._replace(evaluated=values, evaluated_with=settings))
        return replace(self, members=tuple(done))

    def describe(self) -> str:
        """How many are on it, and how much it dominates."""
        total = sum(map(len, self.runs.values()))
        nan = [f"{run}, epoch {saved.epoch}: {', '.join(names)}" for run, saved, names in self.left_out]
        unknown = f"\nnot on the front, because a metric has no value (NaN): {'; '.join(nan)}" if nan else ""
        return (
            f"{len(self.members)} of {total} checkpoints are on the front; * marks the knee\n"
            f"hypervolume over {', '.join(self.bounded)} from {_listed(self.reference)}{_turned(self.bounded)}: "
            f"{self.volume:.4f}{_unbounded(self)}{unknown}"
        )


def _listed(reference: Sequence[float]) -> str:
    """One number where all are the same."""
    return f"{reference[0]:g}" if len(set(reference)) == 1 else ", ".join(f"{value:g}" for value in reference)


def _unbounded(front: MergedFront) -> str:
    names = [name for name in front.metrics if name not in front.bounded]
    return f" (without {', '.join(names)}, which {'has' if len(names) == 1 else 'have'} no bounds)" if names else ""


def _turned(metrics: Sequence[str]) -> str:
    """How metrics that are better lower count for the hypervolume, in brackets; empty without any."""
    said: dict[str, list[str]] = {}
    for name in metrics:
        row = metric_of(name)
        if row.higher_is_better is False:
            said.setdefault(f"{sum(row.range):g} less the value", []).append(name)
    parts = []
    for how, names in said.items():
        parts.append(f"of {', '.join(names)}, which {'is' if len(names) == 1 else 'are'} better lower, {how}")
    return f" ({'; '.join(parts)})" if parts else ""
