"""Untrained runs of tiny nets of every family, as `load_run` would give them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidance.assembly import build_classifier
from guidance.config import parse_config
from guidance.inference import Run
from guidance.models import BACKBONES, Backbone
from guidance.models.bcos.modules import BcosConv2d, LogitBias
from guidance.models.classifier import Classifier
from tests.support.small_nets import xdnn_tiny

CLASSES = ("bird", "fish", "tree", "car")
MakeRun = Callable[..., Run]


def build_tiny_bcos(num_classes: int) -> Classifier:
    """With the average pooling of B-cos ResNets, and of those a convolution as classifier."""
    net = nn.ModuleDict({
        "conv1": BcosConv2d(6, 8, 3, stride=2, padding=1), "pool": nn.AvgPool2d(3, 2, 1),
        "conv2": BcosConv2d(8, 8, 3, padding=1), "fc": BcosConv2d(8, num_classes), "mean": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(), "bias": LogitBias(),
    })  # fmt: skip
    stages = {"mid1": ("conv1", "pool"), "final": ("conv2",), "logits": ("fc", "mean", "flat", "bias")}
    return Classifier(net, stages, channels=6, layerwise=True)


def build_tiny_plain(num_classes: int) -> Classifier:
    net = nn.Sequential(OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(3, 8, 3, stride=2, padding=1), bn1=nn.BatchNorm2d(8), relu=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1),
        conv2=nn.Conv2d(8, 8, 3, padding=1), mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(8, num_classes),
    ))  # fmt: skip
    stages = {"mid1": ("conv1", "bn1", "relu", "pool"), "final": ("conv2", "relu"), "logits": ("mean", "flat", "fc")}
    return Classifier(net, stages, layerwise_evaluation=True)


SHORT = ("input", "mid1", "final")
TINY = {
    "tiny": Backbone(build_tiny_plain, "fc", {}, depths=SHORT, stride=4),
    "tiny_bcos": Backbone(build_tiny_bcos, "fc", {}, depths=SHORT, traits=("dynamic",), encoding="inverse", stride=4),
    "tiny_xdnn": Backbone(lambda k: xdnn_tiny(), "fc", {}, traits=("relevance",)),
}


def untrained(root: Path, name: str, classes: tuple[str, ...] = CLASSES, **sections: dict[str, Any]) -> Run:
    """Without data; `sections` change the config."""
    content: dict[str, Any] = {
        "data": {"name": "custom", "root": str(root), "image_size": 32},
        "model": {"name": name}, "objective": {"classification": "cross_entropy"},
    }  # fmt: skip
    for section, values in sections.items():
        content[section] = content.get(section, {}) | values
    config = parse_config(content)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_classifier(config, len(classes), pretrained=False)
        for module in model.modules():  # statistics as after training, not those that change nothing
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return Run(model.eval(), config, classes, {"accuracy": 0.75, "iou_threshold": 0.5}, config, epoch=3, step=12)


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    for name, row in TINY.items():
        monkeypatch.setitem(BACKBONES, name, row)
    return partial(untrained, tmp_path / "data")
