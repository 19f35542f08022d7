"""Completeness of the explanations of B-cos nets: maps sum to the logit without its bias."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from guidance.models import BACKBONES, build_model
from guidance.models.bcos.vit import position_map
from tests.support.explaining import attribute
from tests.support.small_nets import BCOS, NETS, PUBLISHED_BIAS, build


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


@pytest.mark.parametrize("name", [  # resnet34 and resnet101 have more of the same blocks
    pytest.param(name, marks=pytest.mark.long) if name in ("bcos_resnet34", "bcos_resnet101") else name
    for name in BACKBONES if name.startswith("bcos")
])  # fmt: skip
def test_full_size_nets_are_complete(name: str) -> None:
    """In the structure and depth of the real nets, at a small image size."""
    model = build_model(name, num_classes=5).double().eval()
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    images = torch.cat((images, 1 - images), 1).requires_grad_()
    out = model(images)
    pair = (torch.tensor([0]), torch.tensor([3]))
    total = attribute("bcos", model, out, "input", *pair, create_graph=False).sum()
    if "vit" in name:
        total = total + position_map(model, images, *pair).sum()
    assert float(total.detach()) == pytest.approx(float(out.logits[0, 3].detach()) - PUBLISHED_BIAS, rel=1e-8)


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
