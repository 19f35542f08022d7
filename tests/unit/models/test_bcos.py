"""B-cos layers and nets: the published formulas, names, counts and weights; completeness of their explanations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from guidance.models import BACKBONES, build_model, weights
from guidance.models.bcos.modules import BcosConv2d, BcosLinear, LogitBias
from guidance.models.bcos.norms import BatchNormUncentered2d
from guidance.models.bcos.vit import position_embedding, position_map
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.weights import load_weights
from tests.support.explaining import attribute
from tests.support.small_nets import BCOS, NETS, build

PUBLISHED_BIAS = math.log(0.001 / 0.999)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", BCOS)
def test_maps_at_the_input_sum_to_the_logit_without_its_bias(name: str, training: bool) -> None:
    model, images = build(name)
    model.train(training)
    image, target = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 3])
    out = model(images.requires_grad_())
    total = attribute("bcos", model, out, "input", image, target, create_graph=False).sum((1, 2))
    logits = out.logits[image, target] - PUBLISHED_BIAS
    if "vit" in name:
        share = position_map(model, images, image, target)
        assert share.shape[1:] == (3, 3)
        assert float(share.detach().abs().sum()) > 0
        total = total + share.sum((1, 2))
    torch.testing.assert_close(total, logits, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("depth", ["mid1", "mid2", "mid3", "final"])
@pytest.mark.parametrize("name", BCOS)
def test_maps_inside_a_net_sum_to_the_logit_without_its_bias(name: str, depth: str) -> None:
    model, images = build(name)
    image, target = torch.tensor([0, 2]), torch.tensor([1, 3])
    out = model(images.requires_grad_())
    assert out.features[depth].shape[0] == 3
    assert out.features[depth].dim() == 4
    total = attribute("bcos", model, out, depth, image, target, create_graph=False).sum((1, 2))
    torch.testing.assert_close(total, out.logits[image, target] - PUBLISHED_BIAS, rtol=1e-8, atol=1e-12)


def test_without_linearized_mode_the_sum_is_wrong() -> None:
    model, images = build("bcos_resnet")
    out = model(images.requires_grad_())
    (gradient,) = torch.autograd.grad(out.logits[0, 1], out.features["input"])
    total = float((gradient[0] * images[0]).sum().detach())
    assert abs(total - float(out.logits[0, 1].detach() - PUBLISHED_BIAS)) > 0.1 * abs(total)


def test_full_size_nets_are_complete() -> None:
    """In the structure and depth of the real nets, at a small image size."""
    for name in (name for name in BACKBONES if name.startswith("bcos")):
        model = build_model(name, num_classes=5).double().eval()
        images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
        images = torch.cat((images, 1 - images), 1).requires_grad_()
        out = model(images)
        pair = (torch.tensor([0]), torch.tensor([3]))
        total = attribute("bcos", model, out, "input", *pair, create_graph=False).sum()
        if "vit" in name:
            total = total + position_map(model, images, *pair).sum()
        assert float(total.detach()) == pytest.approx(float(out.logits[0, 3].detach()) - PUBLISHED_BIAS, rel=1e-8)


def test_conv_is_cosine_times_projection_by_hand() -> None:
    conv = BcosConv2d(1, 1, 2).double()
    conv.linear.weight.data = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]], dtype=torch.float64)  # length 5
    x = torch.tensor([[[[1.0, 2.0], [2.0, 4.0]]]], dtype=torch.float64)  # length 5, product 19
    projection = 19 / 5
    assert float(conv(x).detach()) == pytest.approx(projection * (projection / 5), rel=1e-7)
    assert float(conv(-x).detach()) == pytest.approx(-projection * (projection / 5), rel=1e-7)


def test_linear_is_cosine_times_projection_by_hand() -> None:
    linear = BcosLinear(2, 1).double()
    linear.linear.weight.data = torch.tensor([[3.0, 4.0]], dtype=torch.float64)  # length 5
    x = torch.tensor([-0.6, 3.2], dtype=torch.float64)  # length sqrt(10.6), product 11
    projection = 11 / 5
    assert float(linear(x).detach()) == pytest.approx(projection * (projection / 10.6**0.5), rel=1e-9)
    assert float(linear(-x).detach()) == pytest.approx(-projection * (projection / 10.6**0.5), rel=1e-9)


def test_scales_of_input_and_weights() -> None:
    conv = BcosConv2d(3, 4, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    before = conv(x)
    torch.testing.assert_close(conv(100 * x), 100 * before, rtol=1e-4, atol=1e-6)  # up to the 1e-6 in the norm
    conv.linear.weight.data.mul_(7)
    torch.testing.assert_close(conv(x), before)


def test_zero_input_and_zero_filter_give_zero_and_finite_gradients() -> None:
    for layer, shape in (
        (BcosConv2d(2, 3, 3), (1, 2, 4, 4)),
        (BcosLinear(4, 3), (2, 4)),
        (BcosLinear(4, 3, b=3), (2, 4)),
    ):
        layer.linear.weight.data[0] = 0
        for x in (torch.zeros(shape), torch.randn(shape)):
            y = layer(x.requires_grad_())
            y.sum().backward()
            assert torch.isfinite(y).all()
            assert torch.isfinite(x.grad).all()
            assert torch.isfinite(layer.linear.weight.grad).all()
            assert not y.select(1 if y.dim() == 4 else -1, 0).any()


def test_b_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at least 1, not 0\.5"):
        BcosConv2d(1, 1, 1, b=0.5)


def test_batch_norm_scales_by_the_biased_variance_and_keeps_the_mean() -> None:
    norm = BatchNormUncentered2d(3).double().train()
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) + 10
    var = x.transpose(0, 1).flatten(1).var(1, correction=0)
    expected = x * (norm.weight / (var + 1e-5).sqrt())[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    assert float(norm(x).detach().mean()) > 5
    torch.testing.assert_close(norm.running_var, 0.9 * (0.9 + 0.1 * var) + 0.1 * var)
    assert not norm.running_mean.any()
    assert int(norm.num_batches_tracked) == 2
    norm.eval()
    torch.testing.assert_close(norm(x), x * (norm.weight / (norm.running_var + 1e-5).sqrt())[:, None, None])
    assert int(norm.num_batches_tracked) == 2


def test_frozen_batch_norm_neither_uses_nor_updates_batch_statistics() -> None:
    model, images = build("bcos_resnet")
    convert_batchnorm(model.net, "frozen")
    expected = model.eval()(images).logits
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.testing.assert_close(model.train()(images).logits, expected)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


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


@pytest.mark.parametrize("name", SHAPES)
def test_published_state_dicts_load_in_every_prefix_form(name: str) -> None:
    net = build_model(name, num_classes=1000).net
    own = net.state_dict()
    for key, shape in SHAPES[name].items():
        assert tuple(own[key].shape) == shape, key
    state = {key: torch.full_like(value, 0.5) if value.dim() else value for key, value in own.items()}
    for prefix in ("", "module.", "0.", "module.0.", "0.module."):
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


def test_table_of_released_files() -> None:
    base = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights/"
    files = {
        "bcos_resnet18": "resnet_18-68b4160fff.pth", "bcos_resnet34": "resnet_34-a63425a03e.pth",
        "bcos_resnet50": "resnet_50-ead259efe4.pth", "bcos_resnet101": "resnet_101-84c3658278.pth",
        "bcos_densenet121": "densenet_121-b8daf96afb.pth", "bcos_vitc_s": "bcos_vitc_s_patch1_14-cf55c88f0c.pth",
        "bcos_simple_vit_s": "bcos_simple_vit_s_patch16_224-75e99d1f73.pth",
    }  # fmt: skip
    for name, file in files.items():
        assert BACKBONES[name].weights["bcos-v2"] == base + file
        assert weights._hash_prefix(Path(file)) == file.rsplit("-", 1)[1].split(".")[0]
    assert BACKBONES["xdnn_resnet50"].weights["xdnn"].endswith("/models/xfixup_resnet50_model_best.pth.tar")
    assert weights._hash_prefix(Path("xfixup_resnet50_model_best.pth.tar")) is None


def test_failed_download_names_the_file_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ValueError, match=r"resnet_18-68b4160fff\.pth are not at .*no network.*put the file there"):
        build_model("bcos_resnet18", num_classes=4, weights="bcos-v2")


def test_weights_in_the_hub_folder_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    state = {f"0.{k}": v for k, v in build_model("bcos_resnet18", num_classes=1000).net.state_dict().items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "resnet_18-68b4160fff.pth")
    net = build_model("bcos_resnet18", num_classes=4, weights="bcos-v2").net
    assert torch.equal(net.get_parameter("conv1.linear.weight").detach(), state["0.conv1.linear.weight"])


def test_logit_bias_is_the_published_one_or_that_of_the_number_of_classes() -> None:
    assert LogitBias().bias == PUBLISHED_BIAS

    def bias(**options: str) -> float:
        return build_model("bcos_resnet18", num_classes=5, **options).net.get_submodule("logit_bias").bias

    assert bias() == PUBLISHED_BIAS
    assert bias(logit_bias="classes") == -math.log(4)
    with pytest.raises(ValueError, match="only B-cos nets"):
        build_model("resnet18", num_classes=5, logit_bias="classes")
    with pytest.raises(ValueError, match="at least 2 classes"):
        build_model("bcos_resnet18", num_classes=1, logit_bias="classes")
    with pytest.raises(ValueError, match="known: classes, published"):
        build_model("bcos_resnet18", num_classes=5, logit_bias="none")


@pytest.mark.parametrize("name", BCOS)
def test_three_channels_are_a_clear_error(name: str) -> None:
    model, images = build(name)
    assert BACKBONES["bcos_" + name.removeprefix("bcos_")].encoding == "inverse" if name in BACKBONES else True
    for run in (model, lambda x: model.upper(x, "input"), lambda x: model.explainable(x, "final")):
        with pytest.raises(ValueError, match=r"takes images of 6 channels, not 3.*\(x, 1 - x\)"):
            run(images[:, :3])


def test_position_embedding_by_hand() -> None:
    embedding = position_embedding(torch.zeros(1, 2, 3, 8, dtype=torch.float64))
    x, y = 2, 1
    row = [math.sin(x), math.sin(x * 1e-4), math.cos(x), math.cos(x * 1e-4),
           math.sin(y), math.sin(y * 1e-4), math.cos(y), math.cos(y * 1e-4)]  # fmt: skip
    torch.testing.assert_close(embedding[y, x], torch.tensor(row, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NETS)
def test_bf16_forward_gives_finite_float32_maps(name: str) -> None:
    model, images = build(name)
    model, images = model.float().train(), images.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
    pair = (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    exact = attribute("ixg", model, model(images), "input", *pair, create_graph=True)
    for offered in (out, out._replace(pullbacks={})):
        map_ = attribute("ixg", model, offered, "input", *pair, create_graph=True)
        assert map_.dtype == torch.float32
        (map_.square().sum() + out.logits.float().sum()).backward(retain_graph=True)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert functional.cosine_similarity(map_.flatten(), exact.flatten(), dim=0) > 0.95


def test_plain_forward_of_parts_equals_the_explained_one() -> None:
    model, images = build("bcos_simple_vit")
    with torch.no_grad():
        plain = model(images)
    explained = model(images)
    assert torch.equal(plain.logits, explained.logits)
    assert not plain.pullbacks
    torch.testing.assert_close(model.upper(model.lower(images, "mid2"), "mid2").logits, plain.logits)


def test_state_dict_has_no_more_than_the_published_entries() -> None:
    model, _ = build("bcos_resnet")
    assert not any("bias" in key or "relu" in key for key in model.net.state_dict())
    assert isinstance(model.net.get_submodule("relu"), nn.Identity)
    assert isinstance(model.net.get_submodule("maxpool"), nn.AvgPool2d)
