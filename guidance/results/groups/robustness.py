"""How metrics depend on a setting that a sweep has varied: coarser boxes, fewer annotated images, thresholds, depths."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.evaluation.metrics import metric_of
from guidance.evaluation.statistics import Spread
from guidance.pictures.robustness import Curve, CurvePanel
from guidance.results.groups.baseline import baselines
from guidance.results.groups.epochs import ExperimentRuns, GroupRun
from guidance.results.groups.group_fronts import GroupFront, Selection, group_fronts
from guidance.results.groups.tables import spread_text
from guidance.results.groups.traits import DEPTH, depth_order, traits_of
from guidance.results.plan_file import Group
from guidance.results.tables import align
from guidance.runs.files import finite

SPEED = "images per second in training"
KNEE = "knee"


@dataclass(frozen=True)
class Cell:
    """The runs of a series at one value of the setting."""

    series: str
    value: Any
    runs: int
    spreads: dict[str, Spread]  # metric -> over seeds; and SPEED


@dataclass(frozen=True)
class Robustness:
    """Cells in the order of series and value. `baseline`: metric -> its spread; empty without one."""

    setting: str
    cells: tuple[Cell, ...]
    baseline: dict[str, Spread]
    notes: tuple[str, ...]


def robustness(experiment: ExperimentRuns, setting: str, selection: Selection, *, at: str = KNEE) -> Robustness:
    """The metrics of each value of `setting` (a dotted name), seed by seed, at one epoch of each seed.

    `at`: "knee", the balanced compromise of a seed's front over all weights and epochs, or "best:METRIC", the epoch whose
    METRIC is best; both on validation, and the values are those of the split of `selection`. A series is what else tells
    groups apart (loss, net, depth), or a group where two groups would have the same value. ValueError for a setting that
    no run has, or of which all have the same value.
    """
    if at != KNEE and not at.startswith("best:"):
        raise ValueError(f"--at is {at!r}; expected knee or best:METRIC, such as best:f1")
    by = at.removeprefix("best:") if at != KNEE else None
    if by is not None and by not in selection.metrics:
        raise ValueError(f"--at {at}: choose among the metrics of the front, {', '.join(selection.metrics)}")
    fronts, notes = group_fronts(experiment, selection)
    guided = [run for group in experiment.plan.groups if not group.baseline for run in experiment.of(group.name)]
    values = _values(guided, setting)
    series = _series(experiment, guided, setting)
    cells = []
    for label in dict.fromkeys(series.values()):
        for value in values:
            runs = [r for r in guided if series[r.planned.group] == label and r.config.get(setting) == value]
            epochs = tuple(e for run in runs for e in run.epochs if selection.is_defined(e))
            if epochs:
                front = GroupFront(Group(label, label), selection, epochs)
                found = {m: front.at_knee(m) if by is None else front.best(m, by) for m in selection.metrics}
                cells.append(Cell(label, value, len(runs), found | {SPEED: _speed(runs)}))
    if not cells:
        raise ValueError(f"no run of a group that is no baseline has a front; {'; '.join(notes)}")
    chosen = baselines(experiment, fronts)
    baseline = {metric: chosen[0].at(metric) for metric in selection.metrics} if chosen else {}
    return Robustness(setting, tuple(cells), baseline, notes)


def _speed(runs: Sequence[GroupRun]) -> Spread:
    """Images per second: of each seed the median of its runs."""
    seeds = sorted({run.seed for run in runs})
    known = {seed: [run.speed for run in runs if run.seed == seed and run.speed == run.speed] for seed in seeds}
    return Spread.over(statistics.median(found) for found in known.values() if found)


def _values(runs: Sequence[GroupRun], setting: str) -> list[Any]:
    """The values of the setting, in order: depths from the image on, numbers by size, others as text."""
    known = [run.config[setting] for run in runs if setting in run.config]
    if not known:
        names = sorted({name for run in runs for name in run.config})
        raise ValueError(f"no config of a run has the setting {setting!r}; it has {', '.join(names) or 'no settings'}")
    values = [value for number, value in enumerate(known) if value not in known[:number]]
    if len(values) < 2:
        raise ValueError(f"all runs have {setting}={values[0]}, so there is nothing to compare; vary it in the sweep")
    if setting == DEPTH:
        return sorted(values, key=lambda value: depth_order(str(value)))
    if all(isinstance(value, int | float) for value in values):
        return sorted(values)
    return sorted(values, key=str)


def _series(experiment: ExperimentRuns, runs: Sequence[GroupRun], setting: str) -> dict[str, str]:
    """Name of each group -> the label of its series."""
    groups = {
        group.name: group.label for group in experiment.plan.groups if any(r.planned.group == group.name for r in runs)
    }
    parts: dict[str, tuple[str | None, ...]] = {}
    for name in groups:
        traits = traits_of(experiment.of(name))
        depth = None if setting == DEPTH else traits.depth
        parts[name] = (traits.loss, traits.net, depth)
    # Two groups of the same kind with the same value are no one curve.
    taken = [(parts[name], str(value)) for name in groups for value in
             {str(run.config.get(setting)) for run in experiment.of(name)}]  # fmt: skip
    if len(set(taken)) < len(taken):
        return groups
    differing = [i for i in range(3) if len({part[i] for part in parts.values()}) > 1]
    return {name: ", ".join(str(part[i]) for i in differing or [0]) for name, part in parts.items()}


def curve_panels(found: Robustness, metrics: Sequence[str]) -> tuple[list[CurvePanel], list[tuple[float, str]]]:
    """What `pictures.robustness.plot_curves` draws, and its ticks; a panel of the speed for a depth.

    Numbers are placed by their size where all are numbers, else side by side.
    """
    values = list({str(cell.value): cell.value for cell in found.cells}.values())
    if found.setting == DEPTH:
        values.sort(key=lambda value: depth_order(str(value)))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {str(value): float(value) if numeric else float(i) for i, value in enumerate(values)}
    labels = list(dict.fromkeys(cell.series for cell in found.cells))
    panels = []
    for quantity in [*metrics, *([SPEED] if found.setting == DEPTH else [])]:
        curves = [_curve(found, quantity, label, labels.index(label), places) for label in labels]
        baseline = found.baseline.get(quantity)
        panels.append(
            CurvePanel(_title(quantity), curves, None if baseline is None else (baseline.mean, baseline.deviation))
        )
    return panels, [(places[str(value)], f"{value:g}" if numeric else str(value)) for value in values]


def _title(quantity: str) -> str:
    if quantity == SPEED:
        return SPEED
    row = metric_of(quantity)
    return f"{row.label}{' (lower is better)' if row.higher_is_better is False else ''}"


def _curve(found: Robustness, quantity: str, label: str, style: int, places: dict[str, float]) -> Curve:
    cells = sorted((cell for cell in found.cells if cell.series == label), key=lambda cell: places[str(cell.value)])
    spreads = [cell.spreads[quantity] for cell in cells]
    return Curve(
        label,
        style,
        [places[str(cell.value)] for cell in cells],
        [s.mean for s in spreads],
        [s.deviation for s in spreads],
    )


def rows_of(found: Robustness) -> list[tuple[str, str, int, dict[str, Spread]]]:
    """(series, value, runs, spreads) line by line; the baseline last."""
    rows = [(cell.series, str(cell.value), cell.runs, cell.spreads) for cell in found.cells]
    if found.baseline:
        rows.append(("baseline", "", max(spread.seeds for spread in found.baseline.values()), found.baseline))
    return rows


def write_csv(path: Path, found: Robustness, metrics: Sequence[str]) -> None:
    """A line for each series and value: mean, standard deviation and number of seeds of each metric, and of the speed."""
    names = [*metrics, "images_per_second"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [f"{name}{end}" for name in names for end in ("", "_deviation", "_seeds")]
        writer.writerow(["series", found.setting, "runs", *columns])
        for series, value, runs, spreads in rows_of(found):
            chosen = [spreads.get(name) for name in (*metrics, SPEED)]
            cells = [("", "", "") if s is None else (finite(s.mean), finite(s.deviation), s.seeds) for s in chosen]
            writer.writerow([series, value, runs, *(value for cell in cells for value in cell)])


def robustness_table(found: Robustness, metrics: Sequence[str]) -> str:
    """The same as text, with mean and standard deviation in a cell."""
    lines = [["group", found.setting, "runs", *metrics, "images/s"]]
    for series, value, runs, spreads in rows_of(found):
        speed = spreads.get(SPEED)
        shown = "" if speed is None else f"{speed.mean:.0f}"
        lines.append([series, value, str(runs), *(spread_text(spreads[m]) for m in metrics), shown])
    return align(lines)
