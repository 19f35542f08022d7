"""The benchmark with small nets."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.small_nets import CLASSES, bcos_resnet_tiny, relu_resnet_tiny, xdnn_tiny
from tools.benchmarks import loop, step

ROOT = Path(__file__).parents[4]
sys.path.append(str(ROOT / "tools"))

STEPS = (step, import_module("benchmarks.step"))  # the command imports `benchmarks`, a package beside it


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-18s in place of ResNet-50s."""
    smaller = {name: (net.replace("resnet50", "resnet18"), norm) for name, (net, norm) in step.FAMILIES.items()}
    for module in STEPS:
        monkeypatch.setattr(module, "FAMILIES", smaller)
    monkeypatch.setattr(loop, "NET", "resnet8")
    monkeypatch.setattr(import_module("benchmarks.precision"), "MASKED", ("convnext_tiny",))


@pytest.fixture
def tiny_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets of a few channels."""
    made = {"xdnn_resnet18": xdnn_tiny, "bcos_resnet18": bcos_resnet_tiny, "resnet18": relu_resnet_tiny}
    for module in STEPS:
        monkeypatch.setattr(module, "CLASSES", CLASSES)
        monkeypatch.setattr(module, "build_model", lambda name, **_: made[name]())


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `tools/benchmark.py ARGUMENTS` prints, of one thread."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments, "--threads", "1"])
        runpy.run_path(str(ROOT / "tools/benchmark.py"), run_name="__main__")
        return capsys.readouterr().out

    return run
