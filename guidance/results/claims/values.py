"""The value of a metric for each seed of a group, from the results of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from guidance.evaluation.metrics import metric_of, oriented
from guidance.evaluation.statistics import mean
from guidance.results.claims.verdicts import Values
from guidance.results.plan_file import Plan, PlannedRun
from guidance.runs.logs.json_lines import read_log
from guidance.runs.pareto import hypervolume, knee, non_dominated
from guidance.runs.paths import CONFIG, METRICS
from guidance.runs.settings import flatten

LOG = "log:"  # in front of a number of metrics.jsonl, of which the mean over its lines counts
CHECKPOINTS = ("best", "knee", "last", "front")


@dataclass(frozen=True)
class Quantity:
    """What is measured of a group.

    `at`: which of the evaluated checkpoints of a seed counts, over all its runs (the weights of a loss). Always chosen on
    validation, from metrics.jsonl, and measured on `split`: "best" in the metric `by`; "knee" of the front of `by`; "last", the
    latest epoch, where the seed has one run; "front": no checkpoint but all, and the value is the hypervolume that their
    metrics `by` dominate on `split`, from the worst values. `where`: settings of the evaluation that are not those of the run.
    """

    metric: str
    split: str = "test"
    at: str = "best"
    by: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)


class Result(NamedTuple):
    """One checkpoint on one split."""

    run: str
    epoch: int
    metrics: Mapping[str, float]
    val: Mapping[str, float]  # validation metrics of that epoch


def measure(plan: Plan, group: str, quantity: Quantity) -> Values:
    """The value for each seed of a group; seeds without a result are not among them, which is noted.

    Raises ValueError for a file that cannot be read, naming it.
    """
    if group not in {known.name for known in plan.groups}:
        return Values({}, (f"no group {group}",))
    by_seed: dict[int, list[PlannedRun]] = {}
    for run in plan.of(group):
        by_seed.setdefault(_seed(run), []).append(run)
    values: dict[int, float] = {}
    notes: list[str] = []
    for seed, runs in sorted(by_seed.items()):
        found = _of_log(runs, quantity) if quantity.metric.startswith(LOG) else _of_results(runs, quantity)
        if found is None:
            notes.append(f"{group}, seed {seed}: no run has a result on {quantity.split}{_asked(quantity)}")
        else:
            values[seed] = found
    return Values(values, tuple(notes))


def _asked(quantity: Quantity) -> str:
    return "".join(f", {name}={value}" for name, value in quantity.where.items())


def _seed(run: PlannedRun) -> int:
    """As the run's config says; runs that were listed by hand have no other."""
    return int(_config(run.folder).get("seed", run.seed))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        return flatten(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not a config: {error}") from error


def _of_log(runs: Sequence[PlannedRun], quantity: Quantity) -> float | None:
    name = quantity.metric.removeprefix(LOG)
    files = [run.folder / METRICS for run in runs if (run.folder / METRICS).is_file()]
    values = [line[name] for path in files for line in read_log(path) if name in line]
    return mean([value for value in values if math.isfinite(value)]) if files else None


def _of_results(runs: Sequence[PlannedRun], quantity: Quantity) -> float | None:
    results = [result for run in runs for result in read_results(run.folder, quantity.split, quantity.where)]
    if not results:
        return None
    by = quantity.by or (quantity.metric,)
    if quantity.at == "front":
        points = [_point(result.metrics, by) for result in results]
        complete = [point for point in points if all(map(math.isfinite, point))]
        return hypervolume(complete, [metric_of(name).range[0] for name in by]) if complete else math.nan
    return _chosen(results, quantity.at, by).metrics.get(quantity.metric, math.nan)


def _chosen(results: Sequence[Result], at: str, by: Sequence[str]) -> Result:
    if at == "last":
        return max(results, key=lambda result: result.epoch)
    points = [[-math.inf if math.isnan(v) else v for v in _point(result.val, by)] for result in results]
    if at == "best":
        return results[max(range(len(points)), key=lambda i: points[i])]
    front = sorted(non_dominated(points, 0.0))
    return results[front[knee([points[i] for i in front])]]


def _point(metrics: Mapping[str, float], by: Sequence[str]) -> list[float]:
    return [oriented(name, metrics.get(name, math.nan)) for name in by]


def read_results(folder: Path, split: str, where: Mapping[str, Any]) -> list[Result]:
    """The results of a run on a split, evaluated as the run says but for `where`; of one epoch the newest file counts."""
    config, epochs = _config(folder) | dict(where), _validation(folder / METRICS)
    newest: dict[int, Result] = {}
    for path in sorted((folder / "results").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            metrics, settings = content["metrics"], content["settings"]
            evaluated, epoch = settings["config"], int(settings["epoch"])
            if settings["split"] != split or not _agree(evaluated, config, where):
                continue
            numbers = {name: math.nan if value is None else float(value) for name, value in metrics.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a result of launch/evaluate.py: {error!r}") from error
        newest[epoch] = Result(str(folder), epoch, numbers, epochs.get(epoch, {}))
    return list(newest.values())


def _agree(evaluated: Mapping[str, Any], config: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether an evaluation has the settings asked for; where the data lie, and how many scores were computed, is free."""
    free = {"data.root", "evaluation.scores"} - set(where)
    asked = all(name in evaluated for name in where)
    return asked and all(
        evaluated[name] == config[name] for name in evaluated.keys() & config.keys() if name not in free
    )


def _validation(path: Path) -> dict[int, dict[str, float]]:
    """Epoch -> its validation metrics."""
    lines = [line for line in read_log(path) if "epoch" in line] if path.is_file() else []
    return {
        int(line["epoch"]): {name.removeprefix("val/"): v for name, v in line.items() if name.startswith("val/")}
        for line in lines
    }
