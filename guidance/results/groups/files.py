"""The fronts of groups as text and files: JSON with everything, CSV with a line per epoch, and a picture for each split."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.evaluation.statistics import Spread
from guidance.pictures.front_panels import plot_fronts
from guidance.results.groups.baseline import Baseline, baselines
from guidance.results.groups.comparison import FrontComparison
from guidance.results.groups.epochs import VAL, ExperimentRuns, RunEpoch
from guidance.results.groups.group_fronts import GroupFront, Selection, group_fronts
from guidance.results.groups.panels import front_panels
from guidance.results.groups.tables import (
    baseline_lines,
    compare_groups,
    comparison_table,
    group_rows,
    group_table,
)
from guidance.runs.files import finite, plain, write_atomically

JSON, CSV = "fronts.json", "fronts.csv"
# What a line of fronts.csv says of its run, beside what differs between runs.
SHOWN = ("objective.localization.loss", "objective.localization.weight")
Place = tuple[str, int, int]  # run, epoch, step


@dataclass(frozen=True)
class FrontReport:
    """What is known of the fronts of an experiment on a split."""

    experiment: ExperimentRuns
    selection: Selection
    fronts: Mapping[str, GroupFront]
    baselines: tuple[Baseline, ...]
    comparisons: Mapping[tuple[str, str], FrontComparison]
    notes: tuple[str, ...]


def report_fronts(experiment: ExperimentRuns, selection: Selection, resamples: int) -> FrontReport:
    """The fronts of the groups on a split, beside each other and the baseline."""
    fronts, notes = group_fronts(experiment, selection)
    found = compare_groups(fronts, resamples=resamples)
    return FrontReport(experiment, selection, fronts, baselines(experiment, fronts), found, notes)


def describe_fronts(report: FrontReport) -> str:
    """The tables of a split."""
    metrics, split = report.selection.metrics, report.selection.split
    lines = [
        f"{split} split{'' if split == VAL else ', selected on validation'}; mean +- standard deviation over seeds"
    ]
    lines.append(group_table(group_rows(report.experiment, report.fronts), metrics))
    lines += baseline_lines(report.baselines, metrics)
    if len(report.fronts) > 1 and report.comparisons:
        lines.append("probability that the group of the line has the larger hypervolume than that of the column:")
        lines.append(comparison_table(report.fronts, report.comparisons))
    return "\n".join(lines)


def write_fronts(output: Path, reports: Sequence[FrontReport], notes: Sequence[str] = ()) -> list[Path]:
    """Write the reports of an experiment, one for each split, into a folder; returns the paths. One metric is no picture.

    `notes`: on the experiment as a whole; those of a split are in its report.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = [output / JSON, output / CSV]
    selection = reports[0].selection
    content = {
        "experiment": reports[0].experiment.plan.name, "metrics": list(selection.metrics),
        "resolution": selection.resolution, "reference": dict(zip(selection.bounded, selection.reference, strict=True)),
        "notes": list(notes), "splits": {report.selection.split: _content(report) for report in reports},
    }  # fmt: skip
    write_atomically(written[0], json.dumps(content, indent=1, allow_nan=False) + "\n")
    _write_lines(written[1], reports)
    for report in reports:
        if len(selection.metrics) > 1:
            panels = front_panels(report.experiment, report.fronts, report.baselines)
            written.append(output / f"fronts_{report.selection.split}.png")
            title = f"{report.experiment.plan.name}, {report.selection.split} split"
            plot_fronts(panels, title=title).savefig(written[-1], dpi=200)
    return written


def _content(report: FrontReport) -> dict[str, Any]:
    selection = report.selection
    rows = group_rows(report.experiment, report.fronts)
    return {
        "groups": [
            {name: _plain(value) for name, value in row.items()}
            | {"name": name, "baseline": front.group.baseline, "hypervolume_of_all_seeds": finite(front.volume),
               "members": [_member(e, selection, knee=e is front.knee) for e in front.members]}
            for row, (name, front) in zip(rows, report.fronts.items(), strict=True)
        ],
        "baselines": [
            {"group": baseline.group.name, "epochs": [_member(e, selection) for e in baseline.epochs]}
            | {metric: _plain(baseline.at(metric)) for metric in selection.metrics}
            for baseline in report.baselines
        ],
        "comparisons": [
            {"first": first, "second": second, "larger_hypervolume": finite(found.larger),
             "dominates": finite(found.dominates), "dominated": finite(found.dominated), "resamples": found.resamples,
             "undefined": found.undefined}
            for (first, second), found in report.comparisons.items()
        ],
        "notes": list(report.notes),
    }  # fmt: skip


def _plain(value: str | int | Spread) -> Any:
    if not isinstance(value, Spread):
        return value
    return {"mean": finite(value.mean), "deviation": finite(value.deviation), "seeds": value.seeds}


def _member(epoch: RunEpoch, selection: Selection, *, knee: bool = False) -> dict[str, Any]:
    return {
        "run": epoch.run, "seed": epoch.seed, "epoch": epoch.epoch, "step": epoch.step, "knee": knee,
        "checkpoint": None if epoch.checkpoint is None else str(epoch.checkpoint),
        "metrics": {split: plain(epoch.metrics[split]) for split in dict.fromkeys((VAL, selection.split))},
    }  # fmt: skip


def _write_lines(path: Path, reports: Sequence[FrontReport]) -> None:
    """A line for each epoch of each run, also those without a value; marks and values for each split."""
    experiment, metrics = reports[0].experiment, reports[0].selection.metrics
    settings, splits = _settings(experiment), [report.selection.split for report in reports]
    shown = list(dict.fromkeys((VAL, *splits)))
    marks = {report.selection.split: _marks(report) for report in reports}
    columns = ["group", "run", "seed", "epoch", "step", "checkpoint", *settings]
    columns += [f"{mark}_{split}" for split in splits for mark in ("front", "seed_front", "knee")]
    columns += [f"{split}_{metric}" for split in shown for metric in metrics]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for run in experiment.runs:
            for epoch in run.epochs:
                place = epoch.run, epoch.epoch, epoch.step
                writer.writerow([
                    epoch.group, epoch.run, epoch.seed, epoch.epoch, epoch.step, epoch.checkpoint or "",
                    *(run.config.get(name, "") for name in settings),
                    *(place in marked for split in splits for marked in marks[split]),
                    *(epoch.metrics.get(split, {}).get(metric, "") for split in shown for metric in metrics),
                ])  # fmt: skip


def _marks(report: FrontReport) -> tuple[set[Place], set[Place], set[Place]]:
    """Which epochs are on the front of their group, on that of their seed, and the knee."""

    def places(epochs: Iterable[RunEpoch]) -> set[Place]:
        return {(epoch.run, epoch.epoch, epoch.step) for epoch in epochs}

    fronts = report.fronts.values()
    of_seeds = [member for front in fronts for members in front.seeds.values() for member in members]
    members = [member for front in fronts for member in front.members]
    return places(members), places(of_seeds), places(front.knee for front in fronts)


def _settings(experiment: ExperimentRuns) -> Sequence[str]:
    """`SHOWN`, and each setting that is not the same in all configs."""
    configs = [run.config for run in experiment.runs if run.config]
    names = dict.fromkeys(name for config in configs for name in config)
    first = configs[0] if configs else {}
    varying = [n for n in names if n != "seed" and any(config.get(n) != first.get(n) for config in configs)]
    return list(dict.fromkeys([*(name for name in SHOWN if name in names), *varying]))
