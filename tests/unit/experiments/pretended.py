"""Experiments whose trainings only pretend: processes that start at once and write the files that a run has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from guidance.config import dump_config
from guidance.experiments.definition.reading import parse_experiment
from guidance.experiments.definition.schema import Experiment
from guidance.experiments.jobs.work import Work
from guidance.experiments.planning import Planned
from guidance.runs import checkpoint

BASE = {"data": {"name": "demo", "root": "data/demo"}, "model": {"name": "resnet18"}, "trainer": {"epochs": 2}}
TWO_STAGES = """
base: BASE
seeds: [0, 1]
stages:
  baseline:
    label: Baseline
    baseline: true
    set: {objective.localization.weight: 0}
    grid: {optimizer.lr: [1.0e-3, 1.0e-4]}
    best: f1
groups:
  energy:
    label: Energy, IxG
    from: baseline
    set: {objective.localization.loss: energy}
    grid: {objective.localization.weight: [5.0e-4, 1.0e-3]}
"""
# Two epochs of a step each. What a file <group>_<number> in BEHAVIOUR says: fail, quiet, diverge, hang, killed (once), slow,
# damaged.
TRAIN = r"""
import json, os, shutil, signal, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
config, folder, here = Path(given["--config"]), Path(given["--output"]), Path(__file__).parent
name = f"{folder.parent.name}_{folder.name}"
told = here / name
behaviour = told.read_text() if told.exists() else ""
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
(folder / "checkpoints/pareto").mkdir(parents=True, exist_ok=True)
shutil.copy(config, folder / "config.yaml")
place = folder / "epoch"
done = int(place.read_text()) if place.exists() else 0
with open(here / "started", "a") as file:
    file.write(f"{name} {done} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
if behaviour == "fail":
    print("Traceback ...\nerror: no such image\nlast words")
    sys.exit(2)
if behaviour == "quiet":
    print("some words")
    sys.exit(3)
for epoch in range(done + 1, 3):
    if behaviour == "diverge":
        print("error: the loss is not finite at step 1: total.")
        sys.exit(2)
    while behaviour == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.1)
    if behaviour == "killed" and epoch == 2:
        told.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(200 if behaviour == "slow" and epoch == 2 else 0):
        time.sleep(0 if asked else 0.1)
    if asked:
        print("stopped")
        sys.exit(0)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": epoch, "epoch": epoch}) + "\n")
    own = here / f"{name}.{epoch}.pt"
    source = own if own.exists() else here / f"any.{epoch}.pt"
    for written in (f"checkpoints/pareto/epoch_{epoch:04d}.pt", "checkpoints/last.pt"):
        shutil.copy(source, folder / "part")  # a kill between two bytes leaves no half of a checkpoint, as in a training
        os.replace(folder / "part", folder / written)
    if behaviour == "damaged":
        (folder / "checkpoints/last.pt").write_bytes(source.read_bytes()[:-100])
    place.write_text(str(epoch))
"""


def experiment(text: str = TWO_STAGES, **changes: Any) -> Experiment:
    return parse_experiment(yaml.safe_load(text) | {"base": BASE} | changes)


def save_checkpoint(path: Path, *, epoch: int, config: Mapping[str, Any] | None = None, **metrics: float) -> None:
    """Of a net without much in it."""
    content = {
        "config": dict(config or {}), "classes": ["a"], "model": {"w": torch.zeros(1)}, "metrics": metrics or None,
        "epoch": epoch, "step": epoch,
    }  # fmt: skip
    checkpoint.save(path, content)


class Pretended:
    """What pretends to train, in a folder; `works` are its runs as they are submitted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.timeout: float | None = None
        (folder / "train.py").write_text(TRAIN)
        for epoch in (1, 2):
            save_checkpoint(folder / f"any.{epoch}.pt", epoch=epoch, f1=0.5)

    def behave(self, name: str, how: str) -> None:
        (self.folder / name.replace("/", "_")).write_text(how)

    def scores(self, name: str, *values: float) -> None:
        """F1 of a run after each epoch."""
        for epoch, value in enumerate(values, start=1):
            save_checkpoint(self.folder / f"{name.replace('/', '_')}.{epoch}.pt", epoch=epoch, f1=value)

    @property
    def started(self) -> list[str]:
        """Name, epochs done before, and GPUs of each start, in order."""
        path = self.folder / "started"
        return path.read_text().splitlines() if path.exists() else []

    def work(self, planned: Planned, name: str, environment: Mapping[str, str] | None = None) -> Work:
        config = planned.log(name, ".yaml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(dump_config(planned.configs[name]))
        train = [str(self.folder / "train.py"), "--config", str(config), "--output", str(planned.run_folder(name))]
        return Work(name, planned.run_folder(name), planned.log(name), train, 1, environment or {}, self.timeout)


def outcome_of(planned: Planned, name: str) -> dict[str, Any]:
    return dict(json.loads(planned.log(name, ".json").read_text()))
