"""AIM: weights of a bare backbone and of a whole run."""

from __future__ import annotations

import pytest
import torch

from guidance.models import BACKBONES, Wrapping, build_model
from guidance.models.aim import LAYOUT, AIMForm, TopDown, build_aim


def test_weights_of_backbone_and_of_the_whole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Pretrained weights of the bare net fill the backbone; those of an AIM run everything but classifiers that do not fit."""
    bare = build_model("resnet18", num_classes=1000)
    torch.save(bare.net.state_dict(), tmp_path / "bare.pt")
    row = BACKBONES["resnet18"]

    def wrap(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=4, form=AIMForm(width=8))

    model = build_model("resnet18", num_classes=4, weights=tmp_path / "bare.pt", wrapping=Wrapping(wrap, LAYOUT))
    assert isinstance(model, TopDown)
    assert torch.equal(model.net.backbone.layer4[0].conv1.weight, bare.net.layer4[0].conv1.weight)
    torch.save({"model": model.state_dict()}, tmp_path / "aim.pt")
    again = build_model("resnet18", num_classes=4, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap, LAYOUT))
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name

    def wrap_two(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=2, form=AIMForm(width=8))

    other = build_model("resnet18", num_classes=2, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap_two, LAYOUT))
    assert torch.equal(other.net.blocks["stage3"].align.weight, model.net.blocks["stage3"].align.weight)
    assert other.net.heads["final"].linear.weight.shape == (2, 8)
    with pytest.raises(ValueError, match=r"objective\.mode: aim"):
        build_model("resnet18", num_classes=4, weights=tmp_path / "aim.pt", layouts=[LAYOUT])

    def wrap_bottom_up(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=2, form=AIMForm("bottom_up"))

    with pytest.raises(ValueError, match=r"are aim\.stop_stage and aim\.masking its own"):
        build_model("resnet18", num_classes=2, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap_bottom_up, LAYOUT))
    bottom_up = build_model("resnet18", num_classes=2, wrapping=Wrapping(wrap_bottom_up, LAYOUT))
    state = {name: value for name, value in bottom_up.state_dict().items() if "fc." not in name}
    state |= {f"net.backbone.fc.{name}": torch.zeros(7, *shape) for name, shape in (("weight", (512,)), ("bias", ()))}
    torch.save({"model": state}, tmp_path / "bottom_up.pt")
    again = build_model(
        "resnet18", num_classes=2, weights=tmp_path / "bottom_up.pt", wrapping=Wrapping(wrap_bottom_up, LAYOUT)
    )
    assert torch.equal(again.net.masks["stage3"].stem.weight, bottom_up.net.masks["stage3"].stem.weight)
    assert again.net.backbone.fc.weight.shape == (2, 512)
