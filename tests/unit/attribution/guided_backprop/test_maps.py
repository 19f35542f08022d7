"""Guided Backprop and Guided GradCAM: by hand, against captum, and against a slow rule of our own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from captum.attr import GuidedBackprop, GuidedGradCam
from torch import nn

from guidance.attribution.guided_backprop import clamped_at
from guidance.models.aim import AIMForm, build_aim
from guidance.models.classifier import Classifier
from tests.reference.guided_backprop import slow_guided_backprop
from tests.support.explaining import attribute
from tests.support.nets import tiny
from tests.unit.attribution.guided_backprop.nets import IMAGE, TARGET, convnext, explain, residual_net, resnet


def one_cell(activation: nn.Module) -> Classifier:
    """Three channels of one cell: x -> activation(x) -> the sums of weights (2, -3, 5)."""
    net = nn.Sequential(activation, nn.Flatten(), nn.Linear(3, 1, bias=False)).double()
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[2.0, -3.0, 5.0]]))
    return Classifier(net, {"final": [lambda x: x * 1.0], "logits": ["0", "1", "2"]})


def test_relu_by_hand() -> None:
    model = one_cell(nn.ReLU())
    out = model.explainable(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64).view(1, 3, 1, 1), "input")
    zero = torch.tensor([0])
    # Channel 0 passes; channel 1 is active but its gradient is negative; channel 2 is not active.
    assert attribute("guided_backprop", model, out, "input", zero, zero, create_graph=False).tolist() == [[[2.0]]]
    # GradCAM of one cell is relu(x . gradient) = relu(2 - 3): nothing.
    assert attribute("guided_gradcam", model, out, "input", zero, zero, create_graph=False).tolist() == [[[0.0]]]
    out = model.explainable(torch.tensor([4.0, 1.0, -1.0], dtype=torch.float64).view(1, 3, 1, 1), "input")
    assert attribute("guided_gradcam", model, out, "input", zero, zero, create_graph=False).tolist() == [[[10.0]]]


def test_gelu_by_hand() -> None:
    """At -1.5, beyond the minimum of GELU, the slope is negative: the sign that leaves the GELU decides."""
    values = torch.tensor([1.0, -1.5, -1.5], dtype=torch.float64)
    model = one_cell(nn.GELU())
    zero = torch.tensor([0])
    result = attribute(
        "guided_backprop", model, model.explainable(values.view(1, 3, 1, 1), "input"), "input", zero, zero,
        create_graph=False,
    )  # fmt: skip
    slope = [0.5 * (1 + math.erf(v / 2**0.5)) + v * math.exp(-v * v / 2) / (2 * math.pi) ** 0.5 for v in (1.0, -1.5)]
    assert slope[1] < 0
    assert float(result) == pytest.approx(2 * slope[0] - 3 * slope[1])  # and 5 * slope[1], negative, is left out


def test_resnet_equals_captum() -> None:
    model, x = resnet(), torch.randn(3, 3, 64, 64, dtype=torch.float64)
    theirs = GuidedBackprop(model.net).attribute(x[IMAGE].requires_grad_(), target=TARGET)
    ours = explain("guided_backprop", model, x)
    torch.testing.assert_close(ours, theirs.sum(1))
    assert (ours < 0).any()  # signed: the first convolution has negative weights
    # The bilinear option of captum is the convention of the paper; its default is "nearest".
    oracle = GuidedGradCam(model.net, model.net.layer4)
    theirs = oracle.attribute(x[IMAGE].requires_grad_(), target=TARGET, interpolate_mode="bilinear")
    torch.testing.assert_close(explain("guided_gradcam", model, x), theirs.sum(1))


def test_captum_gives_the_plain_gradient_of_a_gelu_net_and_we_do_not() -> None:
    model, x = convnext(), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    theirs = GuidedBackprop(model.net).attribute(x[IMAGE].requires_grad_(), target=TARGET)
    leaf = x[IMAGE].requires_grad_()
    (plain,) = torch.autograd.grad(model(leaf).logits.gather(1, TARGET[:, None]).sum(), leaf)
    torch.testing.assert_close(theirs, plain)
    ours = explain("guided_backprop", model, x)
    assert float((ours - plain.sum(1)).abs().max()) > 0.1 * float(plain.sum(1).abs().max())
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, "input", IMAGE, TARGET))


@pytest.mark.parametrize("depth", ["input", "mid", "final"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_module_used_many_times_beside_a_skip(activation: type[nn.Module], depth: str) -> None:
    model, x = residual_net(activation()), torch.randn(3, 3, 7, 6, dtype=torch.float64)
    ours = explain("guided_backprop", model, x, depth)
    if depth == "final":  # no activation above it
        gradient = model.net[4].weight.sum(1)[TARGET] / ours[0].numel()
        torch.testing.assert_close(ours, gradient[:, None, None].expand_as(ours))
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, depth, IMAGE, TARGET))


def test_a_net_that_masks_its_features() -> None:
    """AIM around a ReLU net has both rules, and depth "final" is the fused map."""
    plain = tiny(activation="relu", channels=3, num_classes=4)
    model = (
        build_aim(plain, (3, 4, 3), first_stage=1, stop_stage=2, num_classes=4, form=AIMForm(width=6, mask_width=4))
        .double()
        .eval()
    )
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    assert clamped_at(model) == "relu+gelu"
    ours = explain("guided_backprop", model, x)
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, "input", IMAGE, TARGET))
    cam = explain("gradcam", model, x, "final")
    assert cam.any()
    wide = nn.functional.interpolate(cam[:, None], (12, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(explain("guided_gradcam", model, x), wide * ours)


@pytest.mark.parametrize("build", [resnet, convnext], ids=["relu", "gelu"])
def test_guided_gradcam_is_the_product_of_its_parts(build: Callable[[], Classifier]) -> None:
    model, x = build(), torch.randn(3, 3, 64, 64, dtype=torch.float64)
    cam = nn.functional.interpolate(explain("gradcam", model, x, "final")[:, None], (64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(explain("guided_gradcam", model, x), cam * explain("guided_backprop", model, x))
    product = explain("gradcam", model, x, "final") * explain("guided_backprop", model, x, "final")
    torch.testing.assert_close(explain("guided_gradcam", model, x, "final"), product)
