"""What the commands that compare groups take: an experiment or run folders by hand, a split, metrics."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidance.evaluation.metrics import metric_of, oriented
from guidance.results.groups.epochs import VAL, ExperimentRuns, read_experiment, regroup
from guidance.results.plan_file import Plan, plan_of_runs, read_plan
from guidance.runs.paths import suggest_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """EXPERIMENT or --group and --baseline; --metrics, --resolution, --evaluated, --output."""
    parser.add_argument("experiment", nargs="?", type=Path, help="folder of an experiment, with its plan.json")
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="LABEL=RUN,RUN",
        help="run folders by hand, instead of EXPERIMENT",
    )
    parser.add_argument("--baseline", metavar="LABEL", help="the --group that the others are compared with")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of the runs' configs")
    parser.add_argument("--resolution", type=float, help="values are rounded to multiples of it before comparing")
    parser.add_argument(
        "--evaluated", nargs="+", default=[], metavar="KEY=VALUE",
        help="which results count where a checkpoint was evaluated with several settings, such as depth=input",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: EXPERIMENT, or the folder fronts")


def read_asked(args: argparse.Namespace, *, by: Sequence[str] = ()) -> tuple[ExperimentRuns, tuple[str, ...]]:
    """The experiment that the arguments name, grouped by settings if there are any, and notes on its runs."""
    where = {}
    for text in args.evaluated:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ValueError(
                f"--evaluated {text}: expected KEY=VALUE, such as depth=input or evaluation.region=segment"
            )
        where[key] = value
    experiment = read_experiment(_plan(args), where=where)
    return (regroup(experiment, by) if by else experiment), experiment.notes


def _plan(args: argparse.Namespace) -> Plan:
    if (args.experiment is None) == (not args.group):
        raise ValueError("give the folder of an experiment, or run folders as --group LABEL=RUN,RUN, and not both")
    if args.experiment is not None:
        if args.baseline is not None:
            raise ValueError("--baseline goes with --group; the plan of an experiment says which group is the baseline")
        return read_plan(args.experiment)
    groups: dict[str, list[Path]] = {}
    for text in args.group:
        label, equals, names = text.partition("=")
        folders = [Path(name.strip()) for name in names.split(",") if name.strip()]
        if not (label.strip() and equals and folders):
            raise ValueError(f"--group {text}: expected LABEL=RUN,RUN, such as Energy=runs/a,runs/b")
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"--group {text}: there is no folder {folder}{suggest_folder(folder)}")
        groups.setdefault(label.strip(), []).extend(folders)
    return plan_of_runs(groups, baseline=args.baseline)


def choose_metrics(experiment: ExperimentRuns, asked: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics of the fronts, and notes on those that no epoch has a value of, which are left out.

    ValueError for one that cannot select, for one that no run has, and where none is left.
    """
    metrics = tuple(dict.fromkeys(asked or _shared(experiment, "pareto.metrics", ["f1", "epg", "iou"])))
    values = [epoch.metrics[VAL] for run in experiment.runs for epoch in run.epochs]
    for metric in metrics:
        oriented(metric, 0.0)  # raises where it has no direction
        if not any(metric in found for found in values):
            known = sorted({name for found in values for name in found if "/" not in name})
            raise ValueError(f"no run has a value of {metric}; choose --metrics of {', '.join(known)}")
    kept = tuple(m for m in metrics if any(not math.isnan(found.get(m, math.nan)) for found in values))
    empty = [metric for metric in metrics if metric not in kept]
    if not kept:
        raise ValueError(
            f"no epoch has a value of {', '.join(metrics)}, so there is no front; choose others with --metrics"
        )
    needs = any("regions" in metric_of(metric).needs for metric in empty)
    hint = "; EPG and IoU need images with a region of the kind evaluation.region" if needs else ""
    return kept, (f"without {', '.join(empty)}: no epoch has a value (NaN){hint}",) if empty else ()


def choose_resolution(experiment: ExperimentRuns, asked: float | None) -> float:
    """To multiples of what values are rounded before they are compared; ValueError below 0."""
    resolution = float(_shared(experiment, "pareto.resolution", 0.005) if asked is None else asked)
    if not resolution >= 0:
        raise ValueError(
            f"--resolution is {resolution}; expected 0 (compare exactly) or a positive number such as 0.005"
        )
    return resolution


def _shared(experiment: ExperimentRuns, key: str, default: Any) -> Any:
    """What the configs of all runs say; ValueError if they differ."""
    found: dict[str, Any] = {}
    for run in experiment.runs:
        config: Mapping[str, Any] = run.config
        if run.epochs:
            found.setdefault(str(config.get(key, default)), config.get(key, default))
    if len(found) > 1:
        name = key.rpartition(".")[2]
        raise ValueError(f"the configs of the runs differ in {key} ({'; '.join(found)}); choose with --{name}")
    return next(iter(found.values()))
