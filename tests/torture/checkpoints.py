"""Cases of checkpoints: a file of a run with other bytes or another content, and every use of it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import torch

from guidance.assembly import build_trainer
from guidance.config import load_config
from guidance.data import generate_demo
from guidance.inference import evaluate_checkpoint
from guidance.runs.front_folder import read_candidates
from tests.support.runs import COUNTS, tiny_config
from tests.torture.mutations import flip_bytes, mutate
from tools import select_pareto

_RUN: list[Path] = []


def prepare() -> None:
    """A run of one epoch on few pictures, beside its data."""
    if not _RUN:
        _RUN.append(Path(tempfile.mkdtemp()))
        generate_demo(_RUN[0] / "demo", **COUNTS, image_size=32)
        build_trainer(_config(1), _RUN[0] / "run", torch.device("cpu")).fit()


def _config(epochs: int) -> Any:
    log = {"tensorboard": False}
    return tiny_config(_RUN[0] / "demo", trainer={"epochs": epochs}, schedule={"name": "constant"}, log=log)


def fuzzed_checkpoint(random: Random, folder: Path) -> None:
    """A file of a run folder with other bytes, or a checkpoint with another content: resumed, evaluated, selected from."""
    run = folder / "run"
    shutil.copytree(_RUN[0] / "run", run)
    checkpoints = [run / "checkpoints/last.pt", run / "checkpoints/pareto/epoch_0001.pt"]
    path = random.choice([checkpoints[0], *checkpoints, run / "metrics.jsonl", run / "config.yaml"])
    if path.suffix != ".pt" or random.random() < 0.3:
        path.write_bytes(flip_bytes(path.read_bytes(), random))
    elif random.random() < 0.1:
        shutil.copy(random.choice(checkpoints), path)
    else:
        state = torch.load(path, weights_only=True)
        state = {key: dict(value) if key == "model" else value for key, value in state.items()}
        for _ in range(random.randint(1, 2)):
            state = mutate(_plain(state), random)
        torch.save(state, path)
    failure = None
    for use in (
        lambda: build_trainer(_config(2), run, torch.device("cpu"), resume=True).fit(),
        lambda: evaluate_checkpoint(run, "test"),
        lambda: read_candidates(run / "checkpoints/pareto"),
        lambda: select_pareto.select([run], output=folder / "front"),
        lambda: load_config(run / "config.yaml"),
    ):
        try:
            use()
        except (ValueError, OSError) as error:
            failure = error
    if failure is not None:
        raise failure


def _plain(value: Any) -> Any:
    """Tuples as lists, which can be changed."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
