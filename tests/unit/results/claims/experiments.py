"""Experiments that are written by hand, and files of claims."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from guidance.results.plan_file import Group, Plan, PlannedRun, read_plan, write_plan
from tools import claims as tool

CLAIMS, PAPERS = tool.ROOT / "configs/claims/claims.yaml", tool.ROOT / "docs/papers.yaml"
SETTINGS = {"seed": 0, "evaluation": {"crop": "none"}, "data": {"root": "x"}}
Epochs = Mapping[int, tuple[Mapping[str, float], Mapping[str, float]]]  # epoch -> validation, test metrics


def result(folder: Path, epoch: int, metrics: Mapping[str, float], split: str = "test", **config: Any) -> None:
    seed = yaml.safe_load((folder / "config.yaml").read_text())["seed"]
    settings = {
        "split": split,
        "epoch": epoch,
        "config": {"seed": seed, "evaluation.crop": "none", "data.root": "y"} | config,
    }
    content = {"metrics": {k: None if math.isnan(v) else v for k, v in metrics.items()}, "settings": settings}
    (folder / "results").mkdir(exist_ok=True)
    name = f"epoch_{epoch}.{split}.{len(list((folder / 'results').iterdir()))}.json"
    (folder / "results" / name).write_text(json.dumps(content))


def run(folder: Path, seed: int, epochs: Epochs) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS | {"seed": seed}))
    lines = [{"step": 1, "step/images_per_second": 10.0 + seed}]
    for epoch, (val, test) in epochs.items():
        lines.append({"step": epoch, "epoch": epoch, **{f"val/{name}": value for name, value in val.items()}})
        result(folder, epoch, test)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def experiment(root: Path, groups: Mapping[str, Mapping[int, list[Epochs]]], scale: str = "small") -> Plan:
    """Group -> seed -> its runs."""
    runs = []
    for group, seeds in groups.items():
        for seed, each in seeds.items():
            for epochs in each:
                folder = Path("runs") / group / f"{len(runs):04d}"
                run(root / folder, seed, epochs)
                runs.append(PlannedRun(folder.as_posix(), group, 0, folder))
    write_plan(root, Plan("R1", tuple(Group(name, name) for name in groups), tuple(runs), scale))
    return read_plan(root)


def one(epg: float, **more: float) -> list[Epochs]:
    return [{1: ({"epg": epg, "f1": 0.5}, {"epg": epg, "f1": 0.5} | more)}]


def write(path: Path, *claims: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"claims": list(claims)}))
    return path


def claim(name: str, *checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "paper": "model_guidance",
        "where": "Fig. 5",
        "claim": f"Says {name}.",
        "checks": list(checks),
    } | more


def direction(group: str, than: str, metric: str = "epg", expect: str = "better") -> dict[str, Any]:
    return {"expect": expect, "group": group, "than": than, "metric": metric}
