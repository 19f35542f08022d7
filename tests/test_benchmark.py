"""The benchmark runs, prints every variant, and forces the double backward where it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from guidance.models import build_model
from tools import benchmark

ROOT = Path(__file__).parents[1]


def test_step_prints_every_variant() -> None:
    arguments = ["--family", "xdnn", "--batch", "2", "--size", "32", "--rounds", "1", "--threads", "1", "--no-memory"]
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", "step", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for variant in benchmark.variants(["xdnn"]):
        assert str(variant) in done.stdout
    assert "1.00x" in done.stdout


def test_double_backward_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("xdnn_resnet18", num_classes=3)
    out = model(torch.rand(2, 3, 32, 32).requires_grad_())
    assert "input" in out.pullbacks
    calls = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or real(*a, **k))
    pair = (torch.tensor([0]), torch.tensor([1]))
    benchmark.by_double_backward(model, out, "input", *pair, create_graph=True, rounds=1)
    assert calls
