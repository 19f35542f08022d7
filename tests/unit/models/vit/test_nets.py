"""ViTs are torchvision's: weights, initialisation, logits; their depths, other image sizes, files of other origins."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from guidance.config import parse_config
from guidance.models import BACKBONES, Classifier, build_model
from guidance.models.vit.net import ViT, vit
from guidance.models.vit.positions import resized_positions
from guidance.models.vit.sizes import SIZES
from guidance.models.vit.state_dicts import vit_state
from tests.support.small_nets import vit_tiny

# Of torchvision for 1000 classes; of timm's vit_small_patch16_224 and vit_base_patch8_224, which torchvision does not have.
PARAMETERS = {"vit_b_16": 86_567_656, "vit_b_32": 88_224_232, "vit_s_16": 22_050_664, "vit_b_8": 86_576_872}
DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
FEW = {"blocks": 6, "dim": 16, "heads": 2, "hidden": 24, "num_classes": 3}


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=1000)
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
        if hasattr(torchvision.models, name):
            official = getattr(torchvision.models, name)().state_dict()
            assert {k: v.shape for k, v in official.items()} == {k: v.shape for k, v in model.net.state_dict().items()}
    blocks = [[x for x in layers if str(x).startswith("encoder.layers.")] for layers in model.stages.values()]
    assert [len(layers) for layers in blocks] == [3, 3, 3, 2, 0]  # the last one is run for the class token alone


def both(image_size: int = 24) -> tuple[Classifier, torchvision.models.VisionTransformer]:
    """Ours and torchvision's from the same seed."""
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(image_size, 4, 6, 2, 16, 24, num_classes=3)
    torch.manual_seed(0)
    return vit(ViT(patch=4, image_size=image_size, **FEW)), theirs  # type: ignore[arg-type]


def test_it_starts_as_torchvisions_and_computes_the_same() -> None:
    ours, theirs = both()
    start = theirs.state_dict()
    assert list(ours.net.state_dict()) == list(start)
    assert all(torch.equal(value, start[key]) for key, value in ours.net.state_dict().items())
    nn.init.normal_(theirs.heads.head.weight)  # as initialised, logits are zero
    ours.net.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 24, 24)
    expected = theirs(images)
    for model in (ours.train(), ours.eval()):
        torch.testing.assert_close(model(images).logits, expected)
        torch.testing.assert_close(model.net(images), expected)
        with torch.no_grad():
            torch.testing.assert_close(model(images).logits, expected)
    for depth in DEPTHS:
        torch.testing.assert_close(ours.upper(ours.lower(images, depth), depth).logits, expected)
    expected.sum().backward()
    ours(images).logits.sum().backward()
    mine = dict(ours.net.named_parameters())
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-3, atol=1e-5)


def test_cells_are_the_patches_in_their_places() -> None:
    """A change of one patch of the image changes its own cell alone, as long as no block has run."""
    model = vit_tiny()
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    moved = images.clone()
    moved[..., :4, 4:] += 1  # the upper right patch
    change = model.cells(model.net.tokens(moved) - model.net.tokens(images), "mid1")
    assert change.shape == (1, 8, 2, 2)
    assert (change.abs().sum((0, 1)) > 0).tolist() == [[False, True], [False, False]]
    final = model(images).features["final"]
    assert final.shape == (1, 5, 16)
    normalized = model.cells(final, "final")
    torch.testing.assert_close(normalized, model.cells(model.net.encoder.layers[-1].ln_1(final[..., 8:]), "mid1"))


def test_at_final_input_times_gradient_is_not_zero_as_it_is_before_the_norm() -> None:
    """The reason why final is what the last block reads: a layer norm does not see the scale of a token."""
    model = vit_tiny()
    out = model(torch.rand(1, 3, 8, 8, dtype=torch.float64).requires_grad_())
    (gradient,) = torch.autograd.grad(out.logits[0, 1], out.features["final"], retain_graph=True)
    assert (model.cells(gradient * out.features["final"], "final").sum(1).abs() > 1e-5).any()
    before = out.features["final"][..., 8:].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(
        model.net.heads(model.net.encoder.ln(model.net.last(model.net.read(before)))[:, 0])[0, 1], before
    )
    assert model.cells(gradient * before, "mid1").sum(1).abs().max() < 1e-4


@pytest.mark.parametrize("side", [2, 5, 9])
def test_positions_are_interpolated_as_torchvision_does(side: int) -> None:
    embedding = torch.randn(1, 37, 16)
    expected = interpolate_embeddings(side * 4, 4, OrderedDict({"encoder.pos_embedding": embedding.clone()}))
    torch.testing.assert_close(resized_positions(embedding, side), expected["encoder.pos_embedding"])
    assert resized_positions(embedding, 6) is embedding


def test_images_of_another_size() -> None:
    ours, _ = both(24)
    larger, theirs = both(32)
    nn.init.normal_(theirs.heads.head.weight)
    ours.net.heads.load_state_dict(theirs.heads.state_dict())
    state = interpolate_embeddings(32, 4, OrderedDict(ours.net.state_dict()))
    larger.net.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32)
    out = ours(images)
    torch.testing.assert_close(out.logits, larger(images).logits)
    assert ours.cells(out.features["mid1"], "mid1").shape == (2, 16, 8, 8)
    for wrong in (torch.rand(1, 3, 30, 30), torch.rand(1, 3, 24, 32)):
        with pytest.raises(
            ValueError, match=r"patches of 4 pixels, so that their side must be a multiple of it, but they are"
        ):
            ours(wrong)


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As timm calls the same weights (vision_transformer.py)."""
    pairs = [
        ("encoder.layers.encoder_layer_", "blocks."), ("ln_", "norm"), ("self_attention.in_proj_", "attn.qkv."),
        ("self_attention.out_proj", "attn.proj"), ("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2"), ("encoder.ln", "norm"),
        ("encoder.pos_embedding", "pos_embed"), ("class_token", "cls_token"), ("conv_proj", "patch_embed.proj"),
        ("heads.head", "head"), ("encoder.norm", "norm"),
    ]  # fmt: skip
    result = {}
    for key, value in state.items():
        for ours, theirs in pairs:
            key = key.replace(ours, theirs)
        result[key] = value
    return result


def small(num_classes: int) -> Classifier:
    return vit(ViT(patch=4, image_size=24, **FEW | {"num_classes": num_classes}))  # type: ignore[arg-type]


def test_files_of_torchvision_and_timm_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under all their names, with other classes, and with positions of larger images."""
    # 224 pixels hold 6 patches of 37, as the images of this net do of its own.
    row = replace(BACKBONES["vit_s_16"], build=small, renamed=partial(vit_state, patch=37))
    monkeypatch.setitem(BACKBONES, "small", row)
    state = {key: torch.randn_like(value) for key, value in small(3).net.state_dict().items()}
    renamed = timm_names(state)
    assert {"blocks.5.attn.qkv.weight", "blocks.0.norm1.bias", "norm.weight", "head.bias", "pos_embed"} <= set(renamed)
    older = {k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for k, v in state.items()}
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in older
    for given in (state, older, renamed):
        torch.save(given, tmp_path / "w.pth")
        found = build_model("small", num_classes=3, weights=tmp_path / "w.pth").net.state_dict()
        assert all(torch.equal(found[key], state[key]) for key in state)
    larger = state | {"encoder.pos_embedding": torch.randn(1, 1 + 9 * 9, 16)}
    torch.save(timm_names(larger), tmp_path / "w.pth")
    loaded = build_model("small", num_classes=5, weights=tmp_path / "w.pth").net.state_dict()
    assert torch.equal(loaded["conv_proj.weight"], state["conv_proj.weight"])
    assert loaded["heads.head.weight"].shape == (5, 16)
    torch.testing.assert_close(loaded["encoder.pos_embedding"], resized_positions(larger["encoder.pos_embedding"], 6))
    torch.save(state | {"encoder.pos_embedding": torch.zeros(1, 39, 16)}, tmp_path / "w.pth")  # of a distilled net
    with pytest.raises(
        ValueError, match=r"of another shape: encoder.pos_embedding \(1, 39, 16\) instead of \(1, 37, 16\)"
    ):
        build_model("small", num_classes=3, weights=tmp_path / "w.pth")
    assert (
        BACKBONES["vit_b_8"]
        .renamed({"encoder.pos_embedding": torch.zeros(1, 197, 8)})["encoder.pos_embedding"]
        .shape[1]
        == 785
    )


def test_what_a_config_refuses() -> None:
    def config(**sections: dict[str, object]) -> object:
        data = {"name": "demo", "root": "x", "image_size": 64} | sections.pop("data", {})
        return parse_config({"data": data, "model": {"name": "vit_s_16"}} | sections)

    config(objective={"attribution": {"method": "grad_rollout"}, "localization": {"weight": 1.0}})
    with pytest.raises(
        ValueError,
        match=r"data.image_size: vit_s_16 cuts images into patches of 16 pixels; set a multiple of it, not 72",
    ):
        config(data={"image_size": 72})
    with pytest.raises(
        ValueError, match=r"objective.mode: aim cannot mask the stages of vit_s_16; it can those of resnet8, resnet18"
    ):
        config(objective={"mode": "aim", "classification": "cross_entropy"})
    with pytest.raises(
        ValueError, match=r"maps of t_lrp cannot be trained through \(its rules divide .*\); set evaluation.attribution"
    ):
        config(objective={"attribution": {"method": "t_lrp"}, "localization": {"weight": 1.0}})
    config(objective={"attribution": {"method": "ixg"}, "localization": {"weight": 1.0}},
           evaluation={"attribution": {"method": "t_lrp"}})  # fmt: skip
    with pytest.raises(
        ValueError, match=r"vit_s_16 cannot give 'bcos', which needs a dynamic-linear net .* it gives .*rollout"
    ):
        config(objective={"attribution": {"method": "bcos"}})
    with pytest.raises(
        ValueError, match=r"resnet18 cannot give 'rollout', which needs the attention weights of a vision transf"
    ):
        config(model={"name": "resnet18"}, objective={"attribution": {"method": "rollout"}})
    assert BACKBONES["vit_b_8"].stride == 8
