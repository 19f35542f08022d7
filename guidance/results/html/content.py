"""What the files of an experiment's runs say, as plain types: the part of the report that needs no net."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from guidance.evaluation.metrics import METRICS, is_known, metric_of
from guidance.results.plan_file import Group, Plan, PlannedRun
from guidance.results.reading import FRONT_SETTINGS, read_settings
from guidance.results.tables import RUN_METRICS
from guidance.runs import paths
from guidance.runs.front_folder import Saved
from guidance.runs.logs.json_lines import read_log
from guidance.runs.pareto import Candidate
from guidance.runs.settings import flatten

VALIDATION = "validation"
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


def started(plan: Plan) -> list[PlannedRun]:
    """The runs that have a log; the others have nothing to show yet. ValueError if none has."""
    found = [run for run in plan.runs if (run.folder / paths.METRICS).is_file()]
    if not found:
        raise ValueError(f"no run of {plan.name} has a {paths.METRICS} yet, so there is nothing to report")
    return found


def describe(plan: Plan, runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """Groups, runs with their settings and points, and what is known of the metrics.

    A point is an epoch of a run on a split: on `VALIDATION` each epoch of `metrics.jsonl`, on others what is in the run's
    `results/` (see `evaluated`).
    """
    configs = {run.name: read_config(run.folder) for run in runs}
    settings = read_settings({name: [Saved(Path(), Candidate("", {}), 0, 0, c)] for name, c in configs.items()})
    described = []
    for run in runs:
        points, left_out = evaluated(run.folder, configs[run.name])
        described.append({
            "name": run.name, "group": run.group, "seed": run.seed, "settings": settings[run.name],
            "own": dict(run.settings), "saved": saved_epochs(run.folder), "left_out": left_out,
            "points": {split: columns(each) for split, each in ({VALIDATION: validation(run.folder)} | points).items()},
        })  # fmt: skip
    return {
        "title": plan.name,
        "groups": [{"name": g.name, "label": g.label, "baseline": g.baseline} for g in plan.groups],
        "runs": described,
        "missing": [run.name for run in plan.runs if run not in runs],
        "front": front_metrics(configs.values()),
    }


def front_metrics(configs: Sequence[Config] | Any) -> dict[str, Any]:
    """The metrics that any of the runs selects by, in order, and the finest resolution."""
    names: dict[str, None] = {}
    resolutions = []
    for config in configs:
        section = config.get("pareto") or {}
        found = {key: section.get(key, default) for key, (default, _) in FRONT_SETTINGS.items()}
        for key, (_, is_valid) in FRONT_SETTINGS.items():
            if not is_valid(found[key]):
                raise ValueError(f"pareto.{key} of a config is {found[key]!r}, which it cannot be")
        names |= dict.fromkeys(found["metrics"])
        resolutions.append(found["resolution"])
    return {"metrics": list(names), "resolution": min(resolutions)}


def validation(folder: Path) -> list[dict[str, Any]]:
    """A point for each epoch of the log."""
    lines = [line for line in read_log(folder / paths.METRICS) if any(name.startswith("val/") for name in line)]
    return [
        point(int(line["epoch"]), {name[4:]: value for name, value in line.items() if name.startswith("val/")})
        for line in lines
    ]


def evaluated(folder: Path, config: Config) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Split -> points of the run's `results/`, and how many files are left out.

    A checkpoint may have been evaluated with other settings than the run's; of several files of an epoch on a split the one
    that fewest settings tell from the run counts, the newest of equal ones.
    """
    flat = flatten(config)
    found: dict[tuple[str, int], tuple[tuple[int, float], dict[str, Any]]] = {}
    files = sorted((folder / "results").glob("*.json"))
    for path in files:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            metrics, settings = content["metrics"], content["settings"]
            key = str(settings["split"]), int(settings["epoch"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what launch/evaluate.py writes: {error!r}; take it away") from error
        used = settings.get("config", {})
        different = sum(flat.get(name) != value for name, value in used.items() if name != "data.root")
        rank = (different, -path.stat().st_mtime)
        if key not in found or rank < found[key][0]:
            found[key] = rank, point(key[1], metrics)
    points: dict[str, list[dict[str, Any]]] = {}
    for (split, _), (_, each) in sorted(found.items()):
        points.setdefault(VALIDATION if split == "val" else split, []).append(each)
    points.pop(VALIDATION, None)  # the log has every epoch of it
    return points, len(files) - len(found)


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


def saved_epochs(folder: Path) -> list[int]:
    """The epochs of the run's own front, whose checkpoints exist."""
    stems = [path.stem for path in paths.front_folder(folder).glob("epoch_*.pt")]
    return sorted(int(stem.removeprefix("epoch_")) for stem in stems if stem.removeprefix("epoch_").isdigit())


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
