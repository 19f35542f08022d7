"""Nets of timm by their names there, with its tags of weights; skipped where timm, an extra, is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_eval_transform
from guidance.config import parse_config
from guidance.inference import load_run
from guidance.models import build_model, find_backbone
from tests.unit.models.sources.test_training import GUIDED, trained
from tools import export

timm = pytest.importorskip("timm")


def config_of(name: str, weights: str, **data: Any) -> Any:
    return parse_config({"data": {"name": "demo"} | data, "model": {"name": f"timm/{name}", "weights": weights}})


def test_rows_and_formats() -> None:
    """Depths as `wrap` suggests them; what tags were trained with as timm says it."""
    row = find_backbone("timm/convnextv2_nano")
    assert row.depths == ("input", "mid1", "mid2", "mid3", "final")
    assert (row.channels, row.head, row.stride) == ((80, 160, 320, 640), "head.fc", 32)
    assert row.weights["fcmae_ft_in1k"] == "convnextv2_nano.fcmae_ft_in1k"
    large = config_of("convnextv2_nano", "fcmae_ft_in22k_in1k_384")
    assert (large.data.image_size, large.model.input.interpolation, large.model.input.crop_pct) == (384, "bicubic", 1.0)
    vit = config_of("vit_tiny_patch16_224", "pretrained")
    assert vit.model.weights == "augreg_in21k_ft_in1k"
    assert (vit.model.input.mean, vit.model.input.std) == ([0.5] * 3, [0.5] * 3)
    assert vit.model.input.crop_pct == 224 / 248  # timm rounds 248.9 down
    assert float(build_eval_transform(vit).encode(torch.zeros(3, 2, 2)).max()) == -1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnextv2_nanoo", r"has no net 'convnextv2_nanoo'\. Did you mean 'convnextv2_nano'\?"),
        ("convnextv2_nano.fcmae", r"set model\.name: timm/convnextv2_nano, model\.weights: fcmae"),
        ("deit_tiny_distilled_patch16_224", r"in several layers \(head, head_dist\)"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(name, "none", image_size=224)


def test_weights_are_read_as_timm_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were learnt without labels, which have no classifier; what fails says what to do."""
    torch.manual_seed(1)
    files = {"test_convnext.r160_in1k": timm.create_model("test_convnext").state_dict()}
    create = timm.create_model

    def fake(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        net = create(name.partition(".")[0], **options)
        if pretrained:
            net.load_state_dict(files[name])
        return net

    monkeypatch.setattr(timm, "create_model", fake)
    model = build_model("timm/test_convnext", num_classes=3, weights="pretrained")
    state = next(iter(files.values()))
    own = model.net.state_dict()
    assert own["head.fc.weight"].shape[0] == 3
    assert all(torch.equal(x, state[key]) for key, x in own.items() if not key.startswith("head.fc."))
    files.clear()
    with pytest.raises(ValueError, match=r"timm/test_convnext\.r160_in1k could not be had from timm \(KeyError"):
        build_model("timm/test_convnext", num_classes=3, weights="r160_in1k")


def test_a_run_and_its_plain_weights(demo_root: Path, tmp_path: Path) -> None:
    """They load into timm's own net, and AIM masks its stages."""
    trained(demo_root, tmp_path / "run", "timm/test_resnet", objective=GUIDED)
    assert export.main([str(tmp_path / "run"), "--to", "timm"]) == 0
    net = timm.create_model("test_resnet", num_classes=3).eval()
    net.load_state_dict(torch.load(tmp_path / "run/export.pth", weights_only=True), strict=True)
    run, images = load_run(tmp_path / "run"), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), run.model(images).logits)
    aim = {"mode": "aim", "attribution": {"depth": "final"}}
    trained(demo_root, tmp_path / "aim", "timm/test_resnet", objective=aim, aim={"width": 8, "mask_width": 4})
