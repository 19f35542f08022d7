"""AIM: the paper's sizes, of the whole and of its parts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from guidance.models.aim import MaskEstimator
from guidance.models.aim.blocks import TopDownBlock
from tests.support.nets import aim_of

# Alshami et al., Table 6, with the totals and multiply-adds (in units of 1e9) of FACTS 5.2 for 200 classes.
PUBLISHED = {
    ("convnext_tiny", 1): (30_694_627, 5.262),
    ("convnext_tiny", 2): (29_892_346, 4.674),
    ("resnet50", 2): (27_602_627, 5.133),
    ("resnet50", 3): (26_626_266, 4.409),
}


@pytest.mark.parametrize(("name", "stop"), PUBLISHED)
def test_sizes_of_table_6(name: str, stop: int) -> None:
    parameters, multiply_adds = PUBLISHED[name, stop]
    with torch.device("meta"):
        model = aim_of(name, stop).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(counter.get_total_flops() / 2e9, 3) == multiply_adds


def test_sizes_of_the_parts() -> None:
    """FACTS 5.2: per stage, the top-down block, the mask estimator and the classifier."""
    parts = {192: (640_000, 110_881), 384: (689_152, 166_177), 768: (787_456, 276_769),
             512: (721_920, 203_041), 1024: (852_992, 350_497), 2048: (1_115_136, 645_409)}  # fmt: skip
    for channels, (block, estimator) in parts.items():
        assert sum(p.numel() for p in TopDownBlock(channels, 256).parameters()) == block
        assert sum(p.numel() for p in MaskEstimator(channels).parameters()) == estimator
    with torch.device("meta"):
        backbone = aim_of("resnet50", 3, classes=2).net.backbone
    assert sum(p.numel() for p in backbone.parameters()) == 23_508_032


def test_size_299_works() -> None:
    model = aim_of("convnext_tiny", 1, classes=5).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 299, 299))
    assert [tuple(mask.shape[2:]) for mask in out.masks.values()] == [(37, 37), (18, 18), (9, 9)]
    assert out.features["final"].shape[2:] == (37, 37)
