"""Every epoch of the runs of an experiment, saved or not, with its metrics on the splits that it was evaluated on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from guidance.importing import import_recorded
from guidance.results.groups.evaluations import read_evaluations
from guidance.results.plan_file import Plan, PlannedRun
from guidance.runs.checkpoint import SUFFIX, read
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import CONFIG, METRICS, epoch_name, front_folder, last_checkpoint
from guidance.runs.settings import flatten

VAL = "val"  # the split that is evaluated after every epoch, under this name in metrics.jsonl
SPEED = "step/images_per_second"


@dataclass(frozen=True)
class RunEpoch:
    """The weights of a run after an epoch, whether they were saved or not."""

    run: str
    group: str
    seed: int
    epoch: int
    step: int
    metrics: Mapping[str, Mapping[str, float]]  # split -> metric -> value
    checkpoint: Path | None = None  # of the run's front, if it is on it


@dataclass(frozen=True)
class GroupRun:
    """What a run of an experiment has found so far."""

    planned: PlannedRun
    seed: int
    config: Mapping[str, Any]  # flat: "model.name" -> "resnet50"; empty before the run has begun
    epochs: tuple[RunEpoch, ...]
    speed: float  # images per second in training, the median of what was logged; NaN before


@dataclass(frozen=True)
class ExperimentRuns:
    """A plan with what its runs have found, and `notes` on what is unfinished or cannot be read."""

    plan: Plan
    runs: tuple[GroupRun, ...]
    notes: tuple[str, ...]

    def of(self, group: str) -> tuple[GroupRun, ...]:
        """The runs of a group that have an epoch."""
        return tuple(run for run in self.runs if run.planned.group == group and run.epochs)


def read_experiment(plan: Plan, *, where: Mapping[str, Any] | None = None, only_own: bool = False) -> ExperimentRuns:
    """Read the runs of a plan; what is missing, unfinished or damaged is noted, and the others count.

    Metrics on the validation split are those of metrics.jsonl (every epoch; where lines are lost, of the checkpoints of the
    front); on other splits those of results/*.json, `where` and `only_own` as in `read_evaluations`. The seed is that of the
    run's config, if it has one. ValueError where no run has an epoch.
    """
    notes: list[str] = []
    runs = tuple(_read_run(planned, where or {}, only_own, notes) for planned in plan.runs)
    if not any(run.epochs for run in runs):
        looked = ", ".join(str(run.folder) for run in plan.runs[:3])
        raise ValueError(f"no run of {plan.name} has an epoch yet; looked for {METRICS} in {looked or 'no folder'}")
    notes += [f"{group.label}: no run has an epoch yet" for group in plan.groups
              if not any(run.epochs for run in runs if run.planned.group == group.name)]  # fmt: skip
    return ExperimentRuns(plan, runs, tuple(notes))


def regroup(experiment: ExperimentRuns, keys: Sequence[str]) -> ExperimentRuns:
    """The same runs in groups of equal settings (dotted names of their configs); the groups of baselines stay as they are.

    ValueError for a setting that no config has.
    """
    known = {name for run in experiment.runs for name in run.config}
    for key in keys:
        if key not in known:
            raise ValueError(f"no config of a run has the setting {key!r}; it is a dotted name such as data.dilation")
    groups = {group.name: group for group in experiment.plan.groups if group.baseline}
    runs = []
    for run in experiment.runs:
        group = run.planned.group
        if group not in groups or not groups[group].baseline:
            group = ", ".join(f"{key.rpartition('.')[2]} {run.config.get(key, '-')}" for key in keys)
            first = next(g for g in experiment.plan.groups if g.name == run.planned.group)
            groups.setdefault(group, replace(first, name=group, label=group))
        epochs = tuple(replace(epoch, group=group) for epoch in run.epochs)
        runs.append(replace(run, planned=replace(run.planned, group=group), epochs=epochs))
    planned = tuple(run.planned for run in runs)
    return replace(
        experiment, plan=replace(experiment.plan, groups=tuple(groups.values()), runs=planned), runs=tuple(runs)
    )


def _read_run(planned: PlannedRun, where: Mapping[str, Any], only_own: bool, notes: list[str]) -> GroupRun:
    folder = planned.folder
    try:
        config = _config(folder)
        lines = read_log(folder / METRICS) if (folder / METRICS).is_file() else []
        found = _logged(lines) | _only_saved(folder, {int(line["epoch"]) for line in lines if "epoch" in line})
        evaluated = read_evaluations(folder, config, where, only_own=only_own)
    except (ValueError, OSError, yaml.YAMLError) as error:
        notes.append(f"{planned.name} is left out: {error}")
        return GroupRun(planned, planned.seed, {}, (), math.nan)
    seed = int(config.get("seed", planned.seed))
    epochs = []
    for (epoch, step), metrics in sorted(found.items()):
        path = front_folder(folder) / f"{epoch_name(epoch)}{SUFFIX}"
        splits = {VAL: metrics} | {
            split: values for split, values in evaluated.get((epoch, step), {}).items() if split != VAL
        }
        epochs.append(
            RunEpoch(planned.name, planned.group, seed, epoch, step, splits, path if path.is_file() else None)
        )
    lost = [f"epoch {epoch} (step {step})" for epoch, step in sorted(evaluated.keys() - found.keys())]
    if lost:
        notes.append(f"{planned.name}: results of {', '.join(lost)} belong to no end of an epoch, and do not count")
    notes += _unfinished(planned, config, epochs)
    speeds = [line[SPEED] for line in lines if not math.isnan(line.get(SPEED, math.nan))]
    return GroupRun(planned, seed, config, tuple(epochs), statistics.median(speeds) if speeds else math.nan)


def _config(folder: Path) -> dict[str, Any]:
    """The config of a run, flat: of its folder, or else of its last checkpoint; empty without either."""
    path, last = folder / CONFIG, last_checkpoint(folder)
    if path.is_file():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping):
            raise ValueError(f"{path} is no config: it holds no sections")
    else:
        content = read(last, verify=False)["config"] if last.is_file() else {}
    import_recorded(content, source=str(folder))  # its metrics may be rows of one's own
    return flatten(content)


def _logged(lines: Sequence[Mapping[str, float]]) -> dict[tuple[int, int], dict[str, float]]:
    """(epoch, step) -> validation metrics."""
    return {
        (int(line["epoch"]), int(line["step"])): {
            name.removeprefix(f"{VAL}/"): value for name, value in line.items() if name.startswith(f"{VAL}/")
        }
        for line in lines
        if "epoch" in line
    }


def _only_saved(folder: Path, logged: set[int]) -> dict[tuple[int, int], dict[str, float]]:
    """The same of the checkpoints of the front whose lines are lost; the others need not be opened."""
    states = [
        read(path, verify=False)
        for path in sorted(front_folder(folder).glob(f"*{SUFFIX}"))
        if path.stem not in {epoch_name(epoch) for epoch in logged}
    ]
    return {(state["epoch"], state["step"]): dict(state["metrics"] or {}) for state in states}


def _unfinished(planned: PlannedRun, config: Mapping[str, Any], epochs: Sequence[RunEpoch]) -> list[str]:
    planned_epochs = config.get("trainer.epochs")
    if not epochs:
        return [f"{planned.name} has no epoch yet ({planned.folder})"]
    done = max(epoch.epoch for epoch in epochs)
    stopped = any(name.startswith("trainer.early_stop.") for name in config)  # it may have ended before by intention
    if isinstance(planned_epochs, int) and done < planned_epochs and not stopped:
        return [f"{planned.name} is unfinished: {done} of {planned_epochs} epochs"]
    return []
