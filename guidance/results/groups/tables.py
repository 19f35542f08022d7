"""Groups as lines of a table: mean and standard deviation over seeds of everything that a seed has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

from guidance.evaluation.metrics import metric_of
from guidance.evaluation.statistics import Spread
from guidance.results.groups.baseline import Baseline
from guidance.results.groups.comparison import FrontComparison, compare_fronts
from guidance.results.groups.epochs import ExperimentRuns
from guidance.results.groups.group_fronts import GroupFront, Selection
from guidance.results.tables import align


def group_rows(experiment: ExperimentRuns, fronts: Mapping[str, GroupFront]) -> list[dict[str, str | int | Spread]]:
    """A row for each group: counts, and the spread over seeds of hypervolume, of the knee and of the best of each metric."""
    rows = []
    for name, front in fronts.items():
        metrics = front.selection.metrics
        row: dict[str, str | int | Spread] = {
            "group": front.group.label, "runs": len(experiment.of(name)), "seeds": len(front.seeds),
            "epochs": len(front.epochs), "front": len(front.members), "hypervolume": front.volumes,
        }  # fmt: skip
        row |= {f"knee_{metric}": front.at_knee(metric) for metric in metrics}
        row |= {f"best_{metric}": front.best(metric) for metric in metrics}
        rows.append(row)
    return rows


def group_table(rows: Sequence[Mapping[str, str | int | Spread]], metrics: Sequence[str]) -> str:
    """`group_rows` as text: "mean +- standard deviation", without the latter for one seed."""
    labels = {"front": "on front"}
    for metric in metrics:
        row = metric_of(metric)
        extreme = "lowest" if row.higher_is_better is False else "highest"
        labels |= {f"knee_{metric}": f"knee: {row.label}", f"best_{metric}": f"{extreme} {row.label}"}
    header = [labels.get(name, name) for name in rows[0]]
    return align([header, *([_cell(value) for value in row.values()] for row in rows)])


def _cell(value: str | int | Spread) -> str:
    return spread_text(value) if isinstance(value, Spread) else str(value)


def spread_text(spread: Spread) -> str:
    """Mean and, of several seeds, standard deviation; - for none."""
    if math.isnan(spread.mean):
        return "-"
    return f"{spread.mean:.4f}" + ("" if math.isnan(spread.deviation) else f" +- {spread.deviation:.4f}")


def baseline_lines(baselines: Sequence[Baseline], metrics: Sequence[str]) -> list[str]:
    """A line for each baseline: what the other groups are compared with."""
    return [
        f"baseline {baseline.group.label}: "
        + ", ".join(f"{metric_of(metric).label} {spread_text(baseline.at(metric))}" for metric in metrics)
        + f" (of each seed the epoch {_which(baseline)})"
        for baseline in baselines
    ]


def _which(baseline: Baseline) -> str:
    if baseline.started_from:
        return "that other runs start from"
    return f"with the best {metric_of(baseline.by).label} on validation"


def compare_groups(
    fronts: Mapping[str, GroupFront], *, resamples: int, seed: int = 0
) -> dict[tuple[str, str], FrontComparison]:
    """(first, second) -> how surely the first's front is better, for each pair of groups; see `compare_fronts`.

    Over the metrics whose range has ends; empty without any.
    """
    points = {name: _seed_points(front, front.selection) for name, front in fronts.items()}
    found = {}
    for first, second in permutations(fronts, 2):
        selection = fronts[first].selection
        if selection.bounded:
            found[first, second] = compare_fronts(
                points[first], points[second], selection.reference, resamples=resamples, seed=seed
            )
    return found


def _seed_points(front: GroupFront, selection: Selection) -> list[list[list[float]]]:
    return [[selection.point(epoch, selection.bounded) for epoch in members] for members in front.seeds.values()]


def comparison_table(fronts: Mapping[str, GroupFront], found: Mapping[tuple[str, str], FrontComparison]) -> str:
    """The probability that the group of a line has the larger hypervolume than that of a column, which has its number."""
    numbers = [str(number) for number in range(1, len(fronts) + 1)]
    rows = [["", "", *numbers]]
    for number, (first, front) in zip(numbers, fronts.items(), strict=True):
        rows.append([number, front.group.label, *(_probability(found.get((first, second))) for second in fronts)])
    undefined = any(each.undefined for each in found.values())
    return align(rows, left=2) + ("\n- not defined: a group has one seed" if undefined else "")


def _probability(found: FrontComparison | None) -> str:
    if found is None:
        return ""
    return "-" if found.undefined else f"{found.larger:.2f}"
