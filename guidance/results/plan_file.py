"""What an experiment consists of, as a file in its folder: its groups and their runs, finished or not.

`launch/sweep.py` writes it, and everything that compares groups reads it; so does whoever lists runs by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidance.runs.files import write_atomically
from guidance.runs.paths import suggest_folder

PLAN = "plan.json"


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment."""

    name: str  # unique in the experiment, such as "energy/0003"
    group: str
    seed: int
    folder: Path  # absolute, or relative to the folder of the experiment
    settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # dotted name -> value: what tells it apart within its group
    start: str | None = None  # name of the run whose weights it starts from, once that is known
    weights: Path | None = None  # the checkpoint of that run, relative to the folder of the experiment


@dataclass(frozen=True)
class Group:
    """One configuration of an experiment, such as Energy on B-cos at the input: all its weights and seeds."""

    name: str
    label: str  # for people
    baseline: bool = False  # what the other groups are compared with


@dataclass(frozen=True)
class Plan:
    """Raises ValueError where a run belongs to no group, or two runs have the same name or folder."""

    name: str
    groups: tuple[Group, ...]
    runs: tuple[PlannedRun, ...]
    scale: str = ""  # "full" as in the papers, or "small"; empty where the experiment does not say

    def __post_init__(self) -> None:
        known = {group.name for group in self.groups}
        for run in self.runs:
            if run.group not in known:
                raise ValueError(f"the run {run.name} is of the group {run.group!r}; known: {', '.join(known)}")
        for what, values in (("name", [r.name for r in self.runs]), ("folder", [str(r.folder) for r in self.runs])):
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"two runs of the experiment {self.name} have the {what} {min(twice)}")

    def of(self, group: str) -> tuple[PlannedRun, ...]:
        """The runs of a group, in order."""
        return tuple(run for run in self.runs if run.group == group)


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the plan of the experiment in `folder`; settings must be plain types."""
    content = {
        "name": plan.name, "scale": plan.scale,
        "groups": [{"name": g.name, "label": g.label, "baseline": g.baseline} for g in plan.groups],
        "runs": [
            {"name": r.name, "group": r.group, "seed": r.seed, "folder": str(r.folder), "settings": dict(r.settings),
             "start": r.start, "weights": None if r.weights is None else str(r.weights)}
            for r in plan.runs
        ],
    }  # fmt: skip
    write_atomically(folder / PLAN, json.dumps(content, indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """The plan of the experiment in `folder`, with absolute folders of runs. ValueError where there is none, or no plan."""
    path = folder / PLAN
    if not path.is_file():
        raise ValueError(f"{folder} holds no experiment: there is no {path}{suggest_folder(folder)}")
    try:
        content = json.loads(path.read_text())
        groups = tuple(Group(g["name"], g["label"], bool(g["baseline"])) for g in content["groups"])
        runs = tuple(_read_run(r, folder) for r in content["runs"])
        return Plan(str(content["name"]), groups, runs, str(content.get("scale", "")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a plan of an experiment: {error}") from error


def _read_run(content: Mapping[str, Any], folder: Path) -> PlannedRun:
    weights = content.get("weights")  # plans that were written before runs had them have none
    return PlannedRun(
        content["name"], content["group"], int(content["seed"]), folder / content["folder"], dict(content["settings"]),
        content["start"], None if weights is None else Path(weights),
    )  # fmt: skip


def plan_of_runs(groups: Mapping[str, Sequence[Path]], *, baseline: str | None = None, name: str = "runs") -> Plan:
    """The plan of run folders that are given by hand, by the label of their group; their seeds are read later."""
    if baseline is not None and baseline not in groups:
        raise ValueError(f"there is no group {baseline!r} to be the baseline; given: {', '.join(groups)}")
    runs = [
        PlannedRun(f"{label}/{i:04d}", label, 0, folder.resolve())
        for label, folders in groups.items()
        for i, folder in enumerate(folders)
    ]
    return Plan(name, tuple(Group(label, label, label == baseline) for label in groups), tuple(runs))
