"""Experiments that are written by hand, and files of claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from guidance.results.plan_file import Group, Plan, PlannedRun, read_plan, write_plan
from tests.support.checkpoints import write_epochs, write_evaluation
from tools import report as tool

CLAIMS, PAPERS = tool.CLAIMS, tool.PAPERS
SETTINGS = {"evaluation": {"crop": "none"}, "data": {"root": "x"}}
Values = Mapping[str, float]
Epochs = Mapping[int, tuple[Values, Values]]  # epoch -> validation, test metrics


def config(seed: int, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return SETTINGS | {"seed": seed} | dict(settings or {})


def run(folder: Path, seed: int, epochs: Epochs, settings: Mapping[str, Any] | None = None) -> Path:
    """The epochs must be 1, 2, ...; those without test metrics were not evaluated."""
    names = list(dict.fromkeys(name for val, _ in epochs.values() for name in val))
    rows = [[val.get(name, float("nan")) for name in names] for val, _ in epochs.values()]
    write_epochs(folder, rows, config=config(seed, settings), metrics=names, speed=10.0 + seed)
    for epoch, (_, test) in epochs.items():
        if test:
            write_evaluation(folder, epoch, test, config=config(seed, settings) | {"data": {"root": "elsewhere"}})
    return folder


def experiment(
    root: Path,
    groups: Mapping[str, Mapping[int, list[Epochs]]],
    scale: str = "small",
    *,
    name: str = "R1",
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Group -> seed -> its runs, without epochs for those that have not begun. The group "baseline" is one."""
    runs = []
    root.mkdir(exist_ok=True)
    for group, seeds in groups.items():
        for seed, each in seeds.items():
            for epochs in each:
                folder = Path("runs") / group / f"{len(runs):04d}"
                if epochs:
                    run(root / folder, seed, epochs, settings)
                runs.append(PlannedRun(folder.as_posix(), group, seed, folder))
    known = tuple(Group(group, group, group == "baseline") for group in groups)
    write_plan(root, Plan(name, known, tuple(runs), scale))
    return read_plan(root)


def one(epg: float, **more: float) -> list[Epochs]:
    """A run of one epoch, with an F1 of 0.5 and an IoU of 0.4."""
    values = {"epg": epg, "f1": 0.5, "iou": 0.4} | more
    return [{1: (values, values)}]


def write(path: Path, *claims: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"claims": list(claims)}))
    return path


def claim(name: str, *checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"id": name, "paper": "model_guidance", "where": "Fig. 5", "claim": f"Says {name}."}
    return said | {"checks": list(checks)} | more


def direction(group: str, than: str, metric: str = "epg", expect: str = "better") -> dict[str, Any]:
    return {"expect": expect, "group": group, "than": than, "metric": metric}
