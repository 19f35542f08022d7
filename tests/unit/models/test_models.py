"""Backbones behind `Classifier`: same function as the net itself, depths, weights in every form, batch norm modes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from guidance.models import BACKBONES, build_model
from guidance.models.layers.normalization import BATCHNORMS

FAST = ["resnet8", "resnet18", "convnext_tiny", "densenet121"]


@pytest.mark.parametrize("name", BACKBONES)
def test_table_row_is_true(name: str) -> None:
    """Only of shapes: no weights are drawn."""
    backbone = BACKBONES[name]
    with torch.device("meta"), torch.no_grad():
        model = build_model(name, num_classes=3)
        images = torch.rand(2, 6 if backbone.encoding == "inverse" else 3, backbone.stride * 2, backbone.stride * 2)
        out = model.eval()(images)
    assert model.depths == backbone.depths
    assert backbone.head + ".weight" in model.net.state_dict()
    assert out.logits.shape == (2, 3)
    assert set(out.features) == set(model.depths)
    assert out.features["input"] is images
    assert model.cells(out.features["final"], "final").shape[-2:] == (2, 2)
    assert not any(getattr(m, "inplace", False) for m in model.modules())


@pytest.mark.parametrize("name", FAST)
def test_stages_run_the_net_itself(name: str) -> None:
    """Also in training mode, where the order of pooling and norm would show in the batch statistics."""
    model = build_model(name, num_classes=3).train()
    twin = build_model(name, num_classes=3).train()
    twin.load_state_dict(model.state_dict())
    images = torch.rand(4, 3, 64, 64)
    torch.manual_seed(1)  # ConvNeXt drops paths at random
    ours = model(images).logits
    torch.manual_seed(1)
    torch.testing.assert_close(ours, twin.net(images))
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


@pytest.mark.parametrize("depth", ["input", "mid1", "mid2", "mid3", "final"])
def test_lower_and_upper_make_the_whole(depth: str) -> None:
    model = build_model("resnet18", num_classes=3).eval()
    images = torch.rand(2, 3, 64, 64)
    whole = model(images)
    out = model.upper(model.lower(images, depth), depth)
    torch.testing.assert_close(out.logits, whole.logits)
    assert list(out.features) == list(model.depths[model.depths.index(depth) :])
    with torch.no_grad():
        explainable = model.explainable(images, depth)
    assert explainable.features[depth].is_leaf
    assert explainable.features[depth].requires_grad
    assert explainable.logits.requires_grad


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "vit_s_16"])
def test_gradients_sum_to_zero_where_a_row_says_so(name: str) -> None:
    """Over the channels of a state whose mean a LayerNorm takes away, and of no other."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=3).eval().double()
    for parameter in model.parameters():  # layer scales of 1e-6 and heads of zeros would hide the difference
        nn.init.normal_(parameter, std=0.1)
    for depth in model.depths:
        out = model.explainable(torch.rand(1, 3, 64, 64, dtype=torch.float64), depth)
        (gradient,) = torch.autograd.grad(out.logits[0, 1], out.features[depth])
        cells = model.cells(gradient, depth)
        share = float(cells.sum(1).abs().max() / cells.abs().sum(1).max())
        assert (share < 1e-10) == (depth in BACKBONES[name].centred), (depth, share)


def test_features_are_after_the_activation_and_not_overwritten() -> None:
    model = build_model("resnet18", num_classes=3).train()
    out = model(torch.rand(2, 3, 64, 64))
    before = {depth: value.clone() for depth, value in out.features.items()}
    (out.logits.sum() + sum(f.sum() for f in out.features.values())).backward()
    torch.testing.assert_close(dict(out.features), before)
    assert all((out.features[d] >= 0).all() for d in ("mid1", "mid2", "mid3", "final"))


def test_unknown_names_are_clear() -> None:
    with pytest.raises(ValueError, match=r"resnet51.*known:.*resnet18.*Did you mean 'resnet50'"):
        build_model("resnet51", num_classes=2)
    with pytest.raises(ValueError, match=r"unknown depth 'midd'.*Did you mean 'mid"):
        build_model("resnet18", num_classes=2).lower(torch.rand(1, 3, 64, 64), "midd")
    with pytest.raises(ValueError, match=r"unknown model.batchnorm 'snyc'.*'sync'"):
        build_model("resnet18", num_classes=2, batchnorm="snyc")


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module.net."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_official_state_dicts_load_in_every_form(prefix: str, wrapped: bool, tmp_path: Path) -> None:
    donor = build_model("resnet8", num_classes=1000)
    state = {
        prefix + name: torch.randn_like(v) if v.is_floating_point() else v for name, v in donor.net.state_dict().items()
    }
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "w.pth")
    same = build_model("resnet8", num_classes=1000, weights=tmp_path / "w.pth")
    assert all(torch.equal(value, state[prefix + name]) for name, value in same.net.state_dict().items())
    other = build_model("resnet8", num_classes=20, weights=tmp_path / "w.pth")
    assert other.net.fc.weight.shape == (20, 64)
    assert torch.equal(other.net.conv1.weight, state[prefix + "conv1.weight"])


OFFICIAL = {
    "resnet8": ("fc.weight", (1000, 64), 142_392),
    "resnet18": ("fc.weight", (1000, 512), 11_689_512),
    "resnet50": ("fc.weight", (1000, 2048), 25_557_032),
    "resnet101": ("fc.weight", (1000, 2048), 44_549_160),
    "wide_resnet50_2": ("fc.weight", (1000, 2048), 68_883_240),
    "densenet121": ("classifier.weight", (1000, 1024), 7_978_856),
    "convnext_tiny": ("classifier.2.weight", (1000, 768), 28_589_128),
    "convnext_base": ("classifier.2.weight", (1000, 1024), 88_591_464),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_documented_shapes_of_official_weights(name: str) -> None:
    key, shape, total = OFFICIAL[name]
    with torch.device("meta"):
        net = build_model(name, num_classes=1000).net
    assert net.state_dict()[key].shape == shape
    assert sum(p.numel() for p in net.parameters()) == total


def test_weights_that_do_not_fit_name_every_key(tmp_path: Path) -> None:
    state = build_model("resnet18", num_classes=4).net.state_dict()
    state["layer9.weight"] = state.pop("layer1.0.conv1.weight")
    state["conv1.weight"] = torch.zeros(1, 1, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    text = r"missing: layer1.0.conv1.weight; unexpected: layer9.weight; of another shape: conv1.weight \(1, 1, 1, 1\)"
    with pytest.raises(ValueError, match=text) as e:
        build_model("resnet18", num_classes=4, weights=tmp_path / "w.pth")
    assert "Is model.name the net they belong to" in str(e.value)


def test_missing_and_broken_weight_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*gone.pth.*'imagenet' or 'none'"):
        build_model("resnet18", num_classes=2, weights=tmp_path / "gone.pth")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"broken.pth is not a readable file of weights"):
        build_model("resnet18", num_classes=2, weights=tmp_path / "broken.pth")
    torch.save({"a": 1}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd.pth holds no state dict"):
        build_model("resnet18", num_classes=2, weights=tmp_path / "odd.pth")


def test_a_download_that_fails_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ValueError, match="no network") as e:
        build_model("resnet18", num_classes=2, weights="imagenet")
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in str(e.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(e.value)
    # And the file is taken from there.
    state = build_model("resnet18", num_classes=1000).net.state_dict()
    torch.save(state, tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    model = build_model("resnet18", num_classes=2, weights="imagenet")
    assert torch.equal(model.net.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("mode", BATCHNORMS)
def test_batchnorm_modes(mode: str) -> None:
    model = build_model("resnet18", num_classes=2, batchnorm=mode)
    plain = build_model("resnet18", num_classes=2)
    assert model.state_dict().keys() == plain.state_dict().keys()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert {type(m) for m in norms} == {BATCHNORMS[mode]}
    model.load_state_dict(plain.state_dict())
    images = torch.rand(4, 3, 64, 64)
    ours, reference = model.train()(images).logits, plain.train(mode != "frozen")(images).logits
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)
    same = torch.equal(model.net.bn1.running_mean, torch.zeros(64))
    assert same == (mode == "frozen")
    ours.sum().backward()
    assert model.net.bn1.weight.grad is not None


@pytest.mark.parametrize(("name", "recorded"), [("resnet8", False), ("bcos_resnet18", True)])
def test_features_lie_channels_last_where_that_is_faster(name: str, recorded: bool) -> None:
    """Below a depth, too, where an evaluation begins its pullbacks; a double backward is faster on the other layout."""
    model = build_model(name, num_classes=3).eval()
    images = torch.rand(2, model.channels or 3, 64, 64)

    def last(x: torch.Tensor) -> bool:
        return x.is_contiguous(memory_format=torch.channels_last)

    assert last(model(images).features["mid1"]) == recorded
    with torch.no_grad():
        assert last(model(images).features["mid1"])
        assert last(model.lower(images, "mid2"))
        out = model.explainable(images, "mid1", graph=False)
        assert last(out.features["mid1"])
        assert last(out.pullbacks["mid1"](torch.eye(3)[:2]))
