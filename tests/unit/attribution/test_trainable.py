"""Nets of one's own: what torch cannot differentiate twice is replaced or named, and what is no Classifier is told of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from guidance.evaluation.evaluate import evaluate
from guidance.losses import energy
from guidance.models.classifier import Classifier
from guidance.models.layers.twice import EQUALS
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.nets import tiny


def train_step(model: Classifier, size: int, depth: str = "input") -> list[Tensor]:
    """The gradients of a loss on maps."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, size, size, requires_grad=True)
    maps = attribute("ixg", model, model(images), depth, torch.arange(2), torch.tensor([0, 1]), create_graph=True)
    mask = torch.zeros(2, size, size, dtype=torch.bool)
    mask[:, : size // 2] = True
    energy(maps, mask).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", EQUALS)
def test_the_equal_layers_are_equal(kind: type[nn.Module]) -> None:
    """Values and first derivatives as torch's; second derivatives by finite differences."""
    x = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    ours, theirs = EQUALS[kind](), kind()
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)
    (a,), (b,) = (torch.autograd.grad(layer(x).sum(), x) for layer in (ours, theirs))
    inside = (x.abs() - 3).abs() > 1e-6  # the corners are a matter of taste
    assert torch.allclose(a[inside], b[inside], atol=1e-12)
    points = torch.tensor([-4.0, -1.3, 0.2, 2.1, 4.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(ours, (points,))


def test_mobilenet_can_be_guided() -> None:
    """Its hard activations are replaced; the names of its weights are as they were."""
    net = torchvision.models.mobilenet_v3_small(num_classes=3).eval()
    names, images = list(net.state_dict()), torch.rand(2, 3, 64, 64)
    expected = net(images)
    model = Classifier(net, {"mid1": ["features"], "logits": ["avgpool", nn.Flatten(), "classifier"]})
    assert list(net.state_dict()) == names
    assert torch.allclose(model(images).logits, expected, atol=1e-5)
    gradients = train_step(model, 64)
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


class WithViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=3)


def test_fused_attention_is_named_and_can_be_avoided() -> None:
    model = Classifier(WithViT(), {"logits": ["vit"]})
    nn.init.normal_(model.net.vit.heads.head.weight)
    with pytest.raises(ValueError, match=r"no second derivative of net\.vit\.encoder\.layers\.encoder_layer_0\.self_attention "
                       r"\(MultiheadAttention\), .*encoder_layer_1\.self_attention .*SDPBackend\.MATH"):  # fmt: skip
        train_step(model, 32)
    with sdpa_kernel(SDPBackend.MATH):
        gradients = train_step(model, 32)
    assert all(torch.isfinite(g).all() for g in gradients)


class Blocking(nn.Module):
    """torch's own operation, called as a function, where no layer can be replaced."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.hardsigmoid(x)


def test_a_layer_that_blocks_is_named_with_its_cure() -> None:
    net = nn.Module()
    net.conv, net.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.Conv2d(4, 4, 1), Blocking())
    net.pool, net.flat, net.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    model = Classifier(net, {"mid1": ["conv"], "final": ["gate"], "logits": ["pool", "flat", "fc"]})
    message = r"no second derivative of net\.gate\.1 \(Blocking\); replace them by equal ones .* or guide at a depth above them"
    assert train_step(model, 16, "final")  # what blocks is below
    for depth in ("input", "mid1"):
        with pytest.raises(ValueError, match=message):
            train_step(model, 16, depth)
    assert not any(module._forward_pre_hooks for module in model.modules())
    # Without a loss on them, maps can be had from any net.
    out = model.explainable(torch.rand(1, 3, 16, 16), "input")
    assert attribute("ixg", model, out, "input", torch.tensor([0]), torch.tensor([1]), create_graph=False).shape == (
        1,
        16,
        16,
    )


def test_a_net_that_is_no_classifier_is_told_of() -> None:
    net: Any = torchvision.models.resnet18(num_classes=3)
    images, rows = torch.rand(2, 3, 32, 32, requires_grad=True), torch.arange(2)
    message = r"a ResNet cannot be explained as it is: wrap it, Classifier\(net"
    with pytest.raises(ValueError, match=message):
        attribute("ixg", net, net(images), "input", rows, rows, create_graph=True)
    with pytest.raises(ValueError, match=message):
        make.guided(net)
    with pytest.raises(ValueError, match=message):
        evaluate(net, None, device=torch.device("cpu"), attribution="ixg", depth="input", scoring=None)  # type: ignore[arg-type]
    model = tiny(channels=3, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"`out` is a Tensor; expected what model\(images\) returned"):
        attribute("ixg", model, model(images).logits, "input", rows, rows, create_graph=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("stages", [{"mid1": ["a"], "logits": []}, {"mid1": [], "logits": ["a"]}])
def test_a_stage_without_layers_is_a_mistake(stages: dict[str, list[str]]) -> None:
    net = nn.Module()
    net.a = nn.Identity()
    empty = next(name for name, layers in stages.items() if not layers)
    cure = "name the layers" if empty == "logits" else "leave it out, or name the layers"
    with pytest.raises(ValueError, match=f"^the stage '{empty}' has no layers; {cure} that make it$"):
        Classifier(net, stages)
    with pytest.raises(ValueError, match="the last stage must be 'logits', but the stages are"):
        Classifier(net, {})
    with pytest.raises(ValueError, match=r"the stage 'mid1' must be a list of layers, such as \['a'\], not a string"):
        Classifier(net, {"mid1": "a", "logits": ["a"]})
    with pytest.raises(ValueError, match="'input' is the depth of the images themselves"):
        Classifier(net, {"input": ["a"], "logits": ["a"]})
    net.layer4 = nn.Identity()
    with pytest.raises(ValueError, match=r"names 'layer5', but the net has no such layer. Did you mean 'layer4'\?"):
        Classifier(net, {"final": ["layer5"], "logits": ["a"]})


@pytest.mark.parametrize("layer", [nn.Hardsigmoid, nn.Hardswish])
def test_layers_given_as_objects_are_replaced_too(layer: type[nn.Module]) -> None:
    """A stage may hold the modules themselves instead of their names."""
    torch.manual_seed(0)
    convolution, activation, pool, last = nn.Conv2d(3, 4, 3), layer(), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)
    net = nn.Sequential(convolution, activation, pool, nn.Flatten(), last)
    images, rows = torch.rand(2, 3, 8, 8), torch.arange(2)
    expected = net(images)
    model = Classifier(net, {"final": [convolution, activation], "logits": [pool, net[3], last]})
    out = model(images)
    torch.testing.assert_close(out.logits, expected)
    attribute("ixg", model, out, "final", rows, rows, create_graph=True).sum().backward()
    assert torch.isfinite(convolution.weight.grad).all()
    assert not any(isinstance(x, layer) for stage in model.stages.values() for x in stage)
