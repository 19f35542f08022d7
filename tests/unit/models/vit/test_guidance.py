"""A ViT is guided at its patch tokens through the trainer, and evaluated by its attention at the input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.models import BACKBONES, Backbone, Classifier
from tests.support.runs import CPU, rows
from tests.support.small_nets import vit_tiny


def build_small(num_classes: int) -> Classifier:
    """4 x 4 patches of 8 pixels."""
    return vit_tiny(num_classes=num_classes, patch=8, image_size=32, dtype=torch.float32)


@pytest.mark.parametrize(("method", "depth", "loss"), [
    ("ixg", "final", "energy"), ("gradcam", "mid2", "l1"), ("grad_rollout", "mid1", "ppce"),
])  # fmt: skip
def test_it_is_guided(
    method: str, depth: str, loss: str, settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Backbone(build_small, "heads.head", {}, traits=("attention",), stride=8, patch=8)
    monkeypatch.setitem(BACKBONES, "vit_small", row)
    config = settings(
        model={"name": "vit_small"},
        data={"annotated_fraction": 1.0},
        objective={
            "classification": "cross_entropy", "reduction": "mean",
            "localization": {"loss": loss, "weight": 10.0}, "attribution": {"method": method, "depth": depth},
        },
        optimizer={"lr": 3e-3}, schedule={"name": "constant"}, log={"every": 1, "probe_images": 1},
        evaluation={"attribution": {"method": "inflow", "depth": "input"}},
    )  # fmt: skip
    build_trainer(config, tmp_path / "run", CPU).fit()
    lines = rows(tmp_path / "run")
    losses = [line["train/localization"] for line in lines if "epoch" in line]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert all(0 < line["val/epg"] < 1 for line in lines if "val/epg" in line)
