"""Runs of a tiny net on few pictures of the demo set: what tests build, how they compare two of them, and read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidance.assembly import build_trainer
from guidance.config import Config, parse_config
from guidance.models import BACKBONES, Backbone
from guidance.models.classifier import Classifier
from guidance.runs import checkpoint
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS

CPU = torch.device("cpu")
Make = Callable[..., Config]
COUNTS = {"num_train": 26, "num_val": 10, "num_test": 11}


def build_tiny(num_classes: int) -> Classifier:
    net = nn.ModuleDict({
        "conv1": nn.Conv2d(3, 8, 3, stride=2, padding=1), "bn1": nn.BatchNorm2d(8), "relu": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(8, 8, 3, stride=2, padding=1), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(),
        "drop": nn.Dropout(0.5), "fc": nn.Linear(8, num_classes),
    })  # fmt: skip
    stages = {"mid1": ("conv1", "bn1", "relu"), "final": ("conv2", "relu"), "logits": ("pool", "flat", "drop", "fc")}
    return Classifier(net, stages)


TINY = Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4)


def tiny_config(root: Path, **sections: dict[str, Any]) -> Config:
    """A run of three epochs of four steps, of which no pictures are drawn; `sections` change its config."""
    content: dict[str, Any] = {
        "data": {"name": "demo", "root": str(root), **COUNTS, "image_size": 32, "num_workers": 0, "annotated_fraction": 0.5},
        "model": {"name": "tiny"},
        "objective": {"classification": "cross_entropy", "localization": {"weight": 0.1}},
        "optimizer": {"lr": 1e-3}, "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "trainer": {"epochs": 3, "batch_size": 6, "checkpoint_every": 3, "device": "cpu"},
        "evaluation": {"batch_size": 4, "iou_threshold": "fit"}, "log": {"every": 2, "probe_images": 0},
    }  # fmt: skip
    for name, values in sections.items():
        content[name] = content.get(name, {}) | values
    return parse_config(content)


def train_tiny(run: Path, root: Path, **sections: dict[str, Any]) -> Path:
    """A run of `tiny_config`, to its end."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setitem(BACKBONES, "tiny", TINY)
        build_trainer(tiny_config(root, **sections), run, CPU).fit()
    return run


def timed(name: str) -> bool:
    """Whether a logged number is a time, which differs from run to run."""
    return name == "step/images_per_second" or name.startswith("time/")


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, without times."""
    lines = read_log(folder / METRICS)
    return [{name: value for name, value in line.items() if not timed(name)} for line in lines]


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on interruptions."""
    pareto = {path.name: checkpoint.load(path) for path in (folder / "checkpoints/pareto").iterdir()}
    return {"last": checkpoint.load(folder / "checkpoints/last.pt"), "pareto": pareto, "rows": rows(folder)}


def assert_same(a: Any, b: Any, place: str = "") -> None:
    """Bit-identical, NaN equal to NaN."""
    assert type(a) is type(b), place
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{place}/{i}")
    else:
        assert a == b or (a != a and b != b), f"{place}: {a} and {b}"


def resume(settings: Make, run: Path, **sections: dict[str, Any]) -> None:
    """Go on with `run`, by default to two epochs."""
    config = settings(**({"trainer": {"epochs": 2}, "schedule": {"name": "constant"}} | sections))
    build_trainer(config, run, CPU, resume=True).fit()


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()
