"""The fronts of the groups for the page: what `results.groups` finds, as plain types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from guidance.evaluation.statistics import Spread
from guidance.results.groups.asking import choose_metrics, choose_resolution
from guidance.results.groups.baseline import baselines
from guidance.results.groups.epochs import VAL, ExperimentRuns, RunEpoch
from guidance.results.groups.group_fronts import GroupFront, Selection, group_fronts
from guidance.results.groups.panels import Pair, surfaces
from guidance.results.groups.traits import traits_of
from guidance.results.html.content import FRONT, VALIDATION, short


def describe_fronts(experiment: ExperimentRuns) -> dict[str, Any]:
    """The fronts of each group on each split, for each pair of the metrics that runs select by.

    Over all of these metrics where all runs select by the same ones, as in Rao et al. 2023; else over the pair alone, since
    a run need not have the others. `pairs`: a pair that no group has a front of is left out.
    """
    try:
        metrics, notes = choose_metrics(experiment, None)
        together = True
    except ValueError:
        metrics, notes, together = tuple(front_metrics(experiment)), (), False
    try:
        resolution = choose_resolution(experiment, None)
    except ValueError:
        resolution = FRONT["pareto.resolution"]
    found: dict[str, Any] = {}
    every = {split for run in experiment.runs for epoch in run.epochs for split in epoch.metrics}
    for split in sorted(every, key=lambda name: (name != VAL, name)):
        told: dict[str, None] = {}
        pairs = []
        for pair in combinations(metrics, 2):
            selection = Selection(metrics if together else pair, split, resolution)
            try:
                fronts, left_out = group_fronts(experiment, selection)
            except ValueError as error:
                told[str(error)] = None
                continue
            told |= dict.fromkeys(left_out)
            pairs.append(_pair(experiment, fronts, pair))
        found[VALIDATION if split == VAL else split] = {"pairs": pairs, "notes": list(told)}
    return {
        "metrics": list(metrics),
        "together": together,
        "resolution": resolution,
        "notes": list(notes),
        "splits": found,
    }


def front_metrics(experiment: ExperimentRuns) -> list[str]:
    """The metrics that any of the runs selects by, in order."""
    configs = [run.config for run in experiment.runs if run.epochs]
    return list(dict.fromkeys(m for config in configs for m in config.get("pareto.metrics", FRONT["pareto.metrics"])))


def _pair(experiment: ExperimentRuns, fronts: dict[str, GroupFront], pair: Pair) -> dict[str, Any]:
    """`members`: run and epoch of the front over all seeds; `surfaces`: what the best seed, the median and all attain."""
    return {
        "x": pair[0], "y": pair[1],
        "groups": {
            name: {"members": [_place(epoch) for epoch in front.members], "knee": _place(front.knee), "seeds": len(front.seeds),
                   "surfaces": [[list(map(short, corner)) for corner in each.tolist()] for each in surfaces(front, pair)]}
            for name, front in fronts.items()
        },
        "baselines": [
            {"group": each.group.name, "by": each.by, "seeds": len(each.epochs), "runs": [epoch.run for epoch in each.epochs],
             "x": _spread(each.at(pair[0])), "y": _spread(each.at(pair[1]))}
            for each in baselines(experiment, fronts)
        ],
    }  # fmt: skip


def _place(epoch: RunEpoch) -> list[str | int]:
    return [epoch.run, epoch.epoch]


def _spread(spread: Spread) -> Sequence[float | None]:
    """Mean and standard deviation, None of one seed."""
    return [None if math.isnan(value) else short(value) for value in (spread.mean, spread.deviation)]


def describe_panels(experiment: ExperimentRuns) -> dict[str, dict[str, str]]:
    """Group -> the net and depth of its panel, and how its maps are explained, which a baseline shares with the panel."""
    found = {}
    for group in experiment.plan.groups:
        traits = traits_of(experiment.of(group.name)) if experiment.of(group.name) else None
        if traits is not None:
            parts = [part for part in (traits.net, traits.depth) if part]
            explained = [str(part) for part in (traits.net, *traits.evaluated)]
            found[group.name] = {"panel": ", ".join(parts), "explained": ", ".join(explained)}
    return found
