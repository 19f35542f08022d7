"""The entries of B-cos and X-DNN nets: their names, counts and shapes are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from guidance.models import BACKBONES, build_model
from guidance.models.weights import load_weights
from tests.support.small_nets import build


@pytest.mark.parametrize(
    ("name", "entries", "parameters"),
    [
        ("bcos_resnet18", 101, 11_693_120),
        ("bcos_resnet50", 266, 25_538_880),
        ("bcos_densenet121", 605, 7_945_440),
        ("bcos_vitc_s", 77, 20_878_704),
        ("bcos_simple_vit_s", 75, 22_217_088),
        ("xdnn_resnet50", 54, 25_502_912),
    ],
)
def test_entries_and_parameters_are_the_published_ones(name: str, entries: int, parameters: int) -> None:
    with torch.device("meta"):
        net = build_model(name, num_classes=1000).net
    assert len(net.state_dict()) == entries
    assert sum(p.numel() for p in net.parameters()) == parameters


SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "bcos_resnet50": {
        "conv1.linear.weight": (64, 6, 7, 7), "bn1.weight": (64,), "bn1.running_mean": (64,), "bn1.running_var": (64,),
        "bn1.num_batches_tracked": (), "layer1.0.conv1.linear.weight": (64, 64, 1, 1), "layer1.0.bn1.weight": (64,),
        "layer1.0.conv2.linear.weight": (64, 64, 3, 3), "layer1.0.conv3.linear.weight": (256, 64, 1, 1),
        "layer1.0.bn3.weight": (256,), "layer1.0.downsample.0.linear.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.weight": (256,), "layer2.0.downsample.0.linear.weight": (512, 256, 1, 1),
        "layer4.2.conv2.linear.weight": (512, 512, 3, 3), "layer4.2.bn3.running_var": (2048,),
        "fc.linear.weight": (1000, 2048, 1, 1),
    },
    "bcos_resnet18": {
        "layer2.0.downsample.0.linear.weight": (128, 64, 1, 1), "fc.linear.weight": (1000, 512, 1, 1),
        "layer1.0.conv2.linear.weight": (64, 64, 3, 3),
    },
    "bcos_densenet121": {
        "features.conv0.linear.weight": (64, 6, 7, 7), "features.norm0.weight": (64,),
        "features.denseblock1.denselayer1.norm1.weight": (64,),
        "features.denseblock1.denselayer1.norm1.running_var": (64,),
        "features.denseblock1.denselayer1.conv1.linear.weight": (128, 64, 1, 1),
        "features.denseblock1.denselayer1.norm2.weight": (128,),
        "features.denseblock1.denselayer1.conv2.linear.weight": (32, 128, 3, 3),
        "features.transition1.norm.weight": (256,), "features.transition1.conv.linear.weight": (128, 256, 1, 1),
        "features.transition3.conv.linear.weight": (512, 1024, 1, 1),
        "features.denseblock4.denselayer16.norm1.weight": (992,),
        "features.denseblock4.denselayer16.conv1.linear.weight": (128, 992, 1, 1),
        "features.norm5.weight": (1024,), "features.norm5.running_var": (1024,),
        "classifier.linear.weight": (1000, 1024, 1, 1),
    },
    "bcos_vitc_s": {
        **{f"to_patch_embedding.conv_stem.{i}.linear.weight": (o, c, 3, 3)
           for i, o, c in ((0, 48, 6), (3, 96, 48), (6, 192, 96), (9, 384, 192))},
        **{f"to_patch_embedding.conv_stem.{i}.weight": (c,) for i, c in ((1, 48), (4, 96), (7, 192), (10, 384))},
        "to_patch_embedding.linear.linear.weight": (384, 384),
        "transformer.encoder_0.attn.norm.weight": (384,), "transformer.encoder_0.attn.to_qkv.weight": (1152, 384),
        "transformer.encoder_0.attn.to_out.linear.weight": (384, 384),
        "transformer.encoder_10.ff.net.norm.weight": (384,),
        "transformer.encoder_10.ff.net.linear1.linear.weight": (1536, 384),
        "transformer.encoder_10.ff.net.linear2.linear.weight": (384, 1536),
        "linear_head.norm.weight": (384,), "linear_head.linear.linear.weight": (1000, 384),
    },
    "bcos_simple_vit_s": {
        "to_patch_embedding.linear.linear.weight": (384, 1536), "transformer.encoder_11.attn.norm.weight": (384,),
        "linear_head.linear.linear.weight": (1000, 384),
    },
    "xdnn_resnet50": {
        "conv1.weight": (64, 3, 7, 7), "layer1.0.downsample.weight": (256, 64, 1, 1),
        "layer2.0.downsample.weight": (512, 256, 1, 1), "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.weight": (1000, 2048),
    },
    "bcos_resnet34": {"layer4.2.conv2.linear.weight": (512, 512, 3, 3), "fc.linear.weight": (1000, 512, 1, 1)},
    "bcos_resnet101": {"layer3.22.conv2.linear.weight": (256, 256, 3, 3), "fc.linear.weight": (1000, 2048, 1, 1)},
    "xdnn_resnet18": {"layer2.0.downsample.weight": (128, 64, 1, 1), "fc.weight": (1000, 512)},
    "xdnn_resnet101": {"layer3.22.conv2.weight": (256, 256, 3, 3), "fc.weight": (1000, 2048)},
}  # fmt: skip


PREFIXES = ("", "module.", "0.", "module.0.", "0.module.")


@pytest.mark.parametrize("name", SHAPES)
def test_published_state_dicts_load_in_every_prefix_form(name: str) -> None:
    with torch.device("meta"):  # no weights are drawn
        net = build_model(name, num_classes=1000).net
    own = net.to_empty(device="cpu").state_dict()
    for key, shape in SHAPES[name].items():
        assert tuple(own[key].shape) == shape, key
    state = {key: torch.full_like(value, 0.5) if value.dim() else value for key, value in own.items()}
    for prefix in PREFIXES if name.endswith(("resnet18", "vitc_s")) else PREFIXES[-1:]:
        for parameter in net.parameters():
            parameter.data.zero_()
        load_weights(
            net, {prefix + key: value for key, value in state.items()}, head=BACKBONES[name].head, source="test"
        )
        assert all(float(p.detach().sum()) == 0.5 * p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", ["bcos_resnet18", "bcos_densenet121", "bcos_vitc_s", "xdnn_resnet18"])
def test_classifier_of_another_number_of_classes_stays_fresh(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": build_model(name, num_classes=7).net.state_dict()}, tmp_path / "weights.pth")
    model = build_model(name, num_classes=3, weights=tmp_path / "weights.pth")
    side = 32
    assert model(torch.rand(2, 6 if "bcos" in name else 3, side, side)).logits.shape == (2, 3)


def test_wrong_keys_are_all_named() -> None:
    net = build_model("bcos_resnet18", num_classes=4).net
    state = dict(net.state_dict())
    state["extra.weight"] = state.pop("bn1.weight")
    with pytest.raises(ValueError, match=r"missing: bn1\.weight; unexpected: extra\.weight"):
        load_weights(net, state, head="fc", source="test")


def test_state_dict_has_no_more_than_the_published_entries() -> None:
    model, _ = build("bcos_resnet")
    assert not any("bias" in key or "relu" in key for key in model.net.state_dict())
    assert isinstance(model.net.get_submodule("relu"), nn.Identity)
    assert isinstance(model.net.get_submodule("maxpool"), nn.AvgPool2d)
