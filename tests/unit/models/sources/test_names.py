"""From names of nets to rows: what there is, what is found out, and what is told where there is nothing."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

from guidance.config import Config, dump_config, parse_config
from guidance.models import BACKBONES, build_model, find_backbone
from guidance.models.sources.timm_nets import timm_backbone
from guidance.models.wrapping.recording import RecordingClassifier

OWN = "tests.unit.models.sources.own"


def config_of(name: str, *, size: int | None = 64, **sections: dict[str, Any]) -> Config:
    data = {"name": "demo"} | ({} if size is None else {"image_size": size})
    return parse_config({"data": data, "model": {"name": name} | sections.pop("model", {}), **sections})


def test_rows_of_the_table_are_what_they_were() -> None:
    assert all(find_backbone(name) is row for name, row in BACKBONES.items())


def test_a_net_of_torchvision() -> None:
    """What is found out without values is what the built net is; nothing is drawn, and it is done once."""
    state = torch.get_rng_state()
    row = find_backbone("torchvision/mobilenet_v3_small")
    assert torch.equal(torch.get_rng_state(), state)
    assert find_backbone("torchvision/mobilenet_v3_small") is row
    assert row.depths == ("input", "mid1", "mid2", "mid3", "mid4", "final")
    assert (row.channels, row.first_stage) == ((16, 16, 24, 48, 576), 0)
    assert (row.head, row.stride, row.encoding, row.traits) == ("classifier.3", 32, "normalized", ())
    model = build_model("torchvision/mobilenet_v3_small", num_classes=5).eval()
    out = model(torch.rand(2, 3, 64, 64))
    assert model.depths == row.depths
    assert out.logits.shape == (2, 5)
    assert [out.features[depth].shape[1] for depth in row.depths[1:]] == list(row.channels)
    assert out.features["final"].shape[2] == 64 // row.stride


@pytest.mark.parametrize(
    ("name", "depths", "channels", "head"),
    [
        (f"{OWN}:Pyramid", ("mid1", "mid2", "final"), (6, 8, 10), "head"),
        (f"{OWN}:Untraceable", ("mid1", "mid2", "final"), (6, 8, 10), "head"),  # it is built with values
        (f"{OWN}:Loose", ("mid1", "final"), (8, 8), "head"),
        (f"{OWN}:with_depths", ("early", "late"), (6, 10), "head"),
        ("torchvision/swin_t", ("mid1", "mid2", "mid3", "final"), (), "head"),  # no channels first
        ("torchvision/vit_b_16", ("mid1", "mid2", "mid3", "final"), (), "heads.head"),  # one resolution
        ("torchvision/squeezenet1_0", ("mid1", "mid2", "mid3", "final"), (96, 256, 512, 512), "classifier.1"),
    ],
)
def test_depths_stages_and_heads(name: str, depths: tuple[str, ...], channels: tuple[int, ...], head: str) -> None:
    row = find_backbone(name)
    assert row.depths[1:] == depths
    assert row.channels == channels
    assert row.head == head


def test_a_net_of_ones_own_is_built_as_it_was_tried() -> None:
    for name, kind in (("Pyramid", False), ("Untraceable", True), ("with_depths", False)):
        model = build_model(f"{OWN}:{name}", num_classes=3, batchnorm="frozen")
        assert isinstance(model, RecordingClassifier) == kind
        assert model.depths == find_backbone(f"{OWN}:{name}").depths
        assert model(torch.rand(2, 3, 16, 16)).logits.shape == (2, 3)
        assert type(model.net.first.bn).__name__ == "FrozenBatchNorm2d"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", r"unknown model\.name 'resnet5'; known: .*torchvision/NAME, timm/NAME.* Did you mean 'resnet50'\?"),
        ("torchvison/resnet50", "unknown library of nets .*known: timm, torchvision. Did you mean 'torchvision'"),
        ("torchvision/efficientnet_b9", "unknown net of torchvision .* Did you mean 'efficientnet_b"),
        (
            "no_such_module:build",
            "no_such_module:build: No module named 'no_such_module'; expected package.module:function",
        ),
        (f"{OWN}:build_net", "has no function 'build_net'"),
        (f"{OWN}:NO_FUNCTION", "has no function 'NO_FUNCTION'"),
        (f"{OWN}:of_two", r"cannot be used \(ValueError: asked for 97 classes, it returns 2 logits\)"),
        (f"{OWN}:TwoHeads", r"a row of weights for each class in several layers \(head, second_head\)"),
    ],
)
def test_what_is_not_there_or_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(name)


def test_timm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r"timm/some_net needs timm .*; install with: pip install -e '\.\[timm\]'"):
        timm_backbone("some_net")


def test_depths_and_sizes_in_configs() -> None:
    """Those that the net has, whatever they are called; all others are told, with these."""
    late = {"attribution": {"depth": "late"}, "localization": {"weight": 1}}
    config = config_of(f"{OWN}:with_depths", objective=late)
    assert parse_config(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match=r"depth: .*with_depths has no depth 'final'; it has input, early, late$"):
        config_of(f"{OWN}:with_depths", objective={"attribution": {"depth": "final"}})
    with pytest.raises(
        ValueError, match=r"image_size: torchvision/vit_b_16 cannot be run on images of 64 pixels \(Wrong"
    ):
        config_of("torchvision/vit_b_16")
    assert config_of("torchvision/vit_b_16", size=224).data.image_size == 224
    with pytest.raises(
        ValueError, match=r"image_size: 16 is smaller than one cell of torchvision/mobilenet_v3_small \(32\)"
    ):
        config_of("torchvision/mobilenet_v3_small", size=16)


def test_aim_needs_a_pyramid_through_which_everything_passes() -> None:
    aim = {"mode": "aim", "classification": "cross_entropy", "attribution": {"depth": "final"}}
    for name in ("torchvision/mobilenet_v3_small", f"{OWN}:Pyramid"):
        config_of(name, objective=aim)
    with pytest.raises(ValueError, match=r"aim cannot mask the stages of torchvision/vit_b_16; .* a pyramid of maps"):
        config_of("torchvision/vit_b_16", size=224, objective=aim)
    with pytest.raises(ValueError, match=r"stop_stage: .*:Pyramid has no stage 3 that can be masked; it has 0, 1, 2"):
        config_of(f"{OWN}:Pyramid", objective=aim, aim={"stop_stage": 3})


def test_usual_images_are_not_stored() -> None:
    """Configs of nets of the table are what they were."""
    assert "input:" not in dump_config(config_of("resnet18"))
    assert "imports:" not in dump_config(config_of("resnet18"))
