"""The value of a metric for each seed of a group, from the epochs of its runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from guidance.results.claims.verdicts import Values
from guidance.results.groups.baseline import classification
from guidance.results.groups.epochs import ExperimentRuns, GroupRun, RunEpoch
from guidance.results.groups.group_fronts import Selection
from guidance.results.plan_file import Group

SPEED = "images_per_second"  # in training: no metric of an epoch, but of a run
BEST, KNEE, FRONT, NET = CHECKPOINTS = ("best", "knee", "front", "net")
NO_GROUP = "no group "
CLASSIFICATION = "f1"  # by which a baseline is selected where nothing else says so


@dataclass(frozen=True)
class Quantity:
    """What is measured of a group.

    `at`: which of the epochs of a seed that were evaluated on `split` counts, over all its runs (the weights of a loss), chosen
    on validation: "best" in the first metric of `by` (that of the quantity without any); "knee" of the front of `by`; "front":
    no single one, and the value is the hypervolume of the seed's front of `by` from the worst values, as in
    `group_fronts.Selection`. A baseline is taken where it classifies best, as in `groups.baseline`, and not where its maps are.
    "net": no epoch of a run, but a net whose maps were judged (`benchmarks.measure_judged`).

    `over`: a group whose value is subtracted, seed by seed: a gain. `where`: settings of the evaluation that are not those of
    the runs. `settings`: what the configs of the runs must say; a group of other runs says nothing of the claim.
    """

    metric: str
    split: str = "test"
    at: str = BEST
    by: tuple[str, ...] = ()
    over: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def measure(experiment: ExperimentRuns, group: str, quantity: Quantity) -> Values:
    """The value for each seed of a group. Seeds without a result are not among them, and are named, as are runs without one.

    `experiment` must have been read with the quantity's `where`, and the runs' own results only.
    """
    known = {each.name: each for each in experiment.plan.groups}
    if group not in known or quantity.at == NET:
        return Values({}, (f"{NO_GROUP}{group}",))
    runs = [run for run in experiment.runs if run.planned.group == group]
    other = _other_settings(group, runs, quantity.settings)
    if other:
        return Values({}, (other,))
    values: dict[int, float] = {}
    notes: list[str] = []
    for seed in sorted({run.seed for run in runs}):
        own = [run for run in runs if run.seed == seed]
        found = [run for run in own if _has_result(run, quantity)]
        if found:
            values[seed] = _value(known[group], found, quantity)
        missing = [run.planned.name for run in own if run not in found]
        if missing:
            named = f"{', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}"
            notes.append(f"{group}, seed {seed}: no result of {named}{_asked(quantity)}")
    ours = Values(values, tuple(notes))
    if not quantity.over:
        return ours
    over = measure(experiment, quantity.over, replace(quantity, over="", settings={}))
    return _gain(ours, over, quantity.over)


def _gain(ours: Values, over: Values, group: str) -> Values:
    alone = sorted(set(ours.by_seed) - set(over.by_seed))
    notes = [f"{group}: no result of seed {seed}, so no gain" for seed in alone if over.by_seed]
    gains = {seed: value - over.by_seed[seed] for seed, value in ours.by_seed.items() if seed in over.by_seed}
    return Values(gains, (*ours.notes, *over.notes, *notes))


def _other_settings(group: str, runs: Sequence[GroupRun], settings: Mapping[str, Any]) -> str:
    """What runs of the group say otherwise than the claim; empty without any."""
    for name, value in settings.items():
        found = {str(run.config.get(name, "nothing")) for run in runs if run.config} - {str(value)}
        if found:
            return f"the runs of {group} have {name}={', '.join(sorted(found))}, and the claim is about {value}"
    return ""


def _asked(quantity: Quantity) -> str:
    return f" on {quantity.split}" + "".join(f", {name}={value}" for name, value in quantity.where.items())


def _has_result(run: GroupRun, quantity: Quantity) -> bool:
    return bool(run.epochs) if quantity.metric == SPEED else any(quantity.split in e.metrics for e in run.epochs)


def _value(group: Group, runs: Sequence[GroupRun], quantity: Quantity) -> float:
    """Of the runs of one seed; NaN where no epoch has what is asked for."""
    if quantity.metric == SPEED:
        speeds = [run.speed for run in runs if not math.isnan(run.speed)]
        return statistics.median(speeds) if speeds else math.nan
    at, by = quantity.at, quantity.by or (quantity.metric,)
    if group.baseline and at != FRONT:
        at, by = BEST, (classification(by) or CLASSIFICATION,)
    selection = Selection(by[:1] if at == BEST else by, quantity.split)
    epochs = [epoch for run in runs for epoch in run.epochs if selection.is_defined(epoch)]
    if not epochs:
        return math.nan
    if at == FRONT:
        return selection.volume(selection.front(epochs))
    chosen = _chosen(epochs, at, selection)
    return float(chosen.metrics[quantity.split].get(quantity.metric, math.nan))


def _chosen(epochs: Sequence[RunEpoch], at: str, selection: Selection) -> RunEpoch:
    return selection.best(epochs, selection.metrics[0]) if at == BEST else selection.knee(selection.front(epochs))
