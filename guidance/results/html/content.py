"""What the files of an experiment's runs say, as plain types: the part of the report that needs no net."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from guidance.evaluation.metrics import METRICS, is_known, metric_of
from guidance.results.groups.epochs import VAL, ExperimentRuns, GroupRun
from guidance.results.plan_file import Group, Plan, PlannedRun
from guidance.results.reading import FRONT_SETTINGS, read_settings
from guidance.results.tables import RUN_METRICS
from guidance.runs import paths
from guidance.runs.front_folder import Saved
from guidance.runs.pareto import Candidate
from guidance.runs.settings import flatten

VALIDATION = "validation"
FRONT: Mapping[str, Any] = {f"pareto.{key}": default for key, (default, _) in FRONT_SETTINGS.items()}
DIGITS = 5  # significant ones of every number in the page
Config = Mapping[str, Any]


def read_config(folder: Path) -> Config:
    """The resolved config of a run, nested. ValueError where there is none, or none that is a mapping."""
    path = folder / paths.CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a run: there is no {path}{paths.suggest_folder(folder)}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds {type(config).__name__}; expected the settings of a run")
    return config


def plan_of_folders(folders: Sequence[Path]) -> Plan:
    """The plan of run folders that are given by hand: those whose settings differ in nothing but the seed are a group.

    A group is called as its first run. The groups that guide nothing, where others do, are the baseline.
    """
    places = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = [place.name for place in places]
    names = [str(place) if names.count(name) > 1 else name for name, place in zip(names, places, strict=True)]
    configs = {name: flatten(read_config(place)) for name, place in zip(names, places, strict=True)}
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        key = json.dumps({k: v for k, v in config.items() if k != "seed"}, sort_keys=True, default=str)
        groups.setdefault(key, []).append(name)
    without = {members[0] for members in groups.values() if _guides_nothing(configs[members[0]])}
    without = without if len(without) < len(groups) else set()
    rows = tuple(Group(members[0], members[0], members[0] in without) for members in groups.values())
    of = {name: members[0] for members in groups.values() for name in members}
    runs = [
        PlannedRun(name, of[name], int(configs[name].get("seed") or 0), place)
        for name, place in zip(names, places, strict=True)
    ]
    return Plan(", ".join(names) if len(names) < 4 else f"{len(names)} runs", rows, tuple(runs))


def _guides_nothing(config: Config) -> bool:
    return config.get("objective.mode", "guided") == "guided" and not config.get("objective.localization.weight")


def describe(experiment: ExperimentRuns) -> dict[str, Any]:
    """Groups, runs with their settings and points, and what is missing.

    A point is an epoch of a run on a split: on `VALIDATION` each epoch of `metrics.jsonl`, on others what was evaluated.
    """
    runs = [run for run in experiment.runs if run.epochs]
    settings = read_settings({run.planned.name: [Saved(Path(), Candidate("", {}), 0, 0, run.config)] for run in runs})
    plan = experiment.plan
    return {
        "title": plan.name,
        "groups": [{"name": g.name, "label": g.label, "baseline": g.baseline} for g in plan.groups],
        "runs": [
            {"name": run.planned.name, "group": run.planned.group, "seed": run.seed, "settings": settings[run.planned.name],
             "own": dict(run.planned.settings), "points": points(run),
             "saved": [epoch.epoch for epoch in run.epochs if epoch.checkpoint is not None]}
            for run in runs
        ],
        "missing": [run.planned.name for run in experiment.runs if not run.epochs],
        "notes": list(experiment.notes),
    }  # fmt: skip


def points(run: GroupRun) -> dict[str, dict[str, Any]]:
    """Split -> its points, as columns."""
    splits = dict.fromkeys(split for epoch in run.epochs for split in epoch.metrics)
    return {
        VALIDATION if split == VAL else split: columns(
            [point(epoch.epoch, epoch.metrics[split]) for epoch in run.epochs if split in epoch.metrics]
        )
        for split in splits
    }


def point(epoch: int, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """An epoch with its metrics of whole splits, as JSON takes them: what is not finite is left out."""
    kept = {
        n: v for n, v in metrics.items() if v is not None and math.isfinite(v) and (n in METRICS or not is_known(n))
    }
    return {"epoch": epoch, "metrics": {name: short(value) for name, value in kept.items()}}


def columns(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Points as a column for each metric, with None where a point has no value: names are then written once."""
    names = dict.fromkeys(name for each in points for name in each["metrics"])
    return {
        "epoch": [each["epoch"] for each in points],
        "values": {name: [each["metrics"].get(name) for each in points] for name in names},
    }


def short(value: float) -> float:
    """With as many digits as the page has."""
    return float(f"{value:.{DIGITS}g}")


def describe_metrics(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of every metric of any point: its label, and which way it is better; those of tables first."""
    present = dict.fromkeys(
        name for run in content["runs"] for points in run["points"].values() for name in points["values"]
    )  # fmt: skip
    names = [*(n for n in RUN_METRICS if n in present), *(n for n in present if n not in RUN_METRICS)]
    rows = {name: metric_of(name) for name in names}
    return {
        name: {"label": row.label, "higher": row.higher_is_better, "table": name in RUN_METRICS}
        for name, row in rows.items()
    }
