"""Guided Backprop and Guided GradCAM: by hand, against captum, against a slow rule of our own, and what they leave behind."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import GuidedBackprop, GuidedGradCam
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from guidance.attribution import ATTRIBUTIONS, method_of, needs_gradient
from guidance.attribution.guided_backprop import clamped_at, clamped_gradients
from guidance.models.aim import AIMForm, build_aim
from guidance.models.classifier import Classifier
from guidance.models.torchvision_nets import CONVNEXT_STAGES, RESNET_STAGES
from guidance.types import Forward
from tests.support.explaining import attribute
from tests.support.nets import global_average, tiny
from tests.support.small_nets import relu_resnet_tiny

IMAGE, TARGET = torch.tensor([0, 1, 1, 2]), torch.tensor([3, 0, 2, 1])
PAIRS = torch.tensor([0, 2, 1]), torch.tensor([2, 0, 1])  # of a net with three classes
GUIDED = ("guided_backprop", "guided_gradcam")


def explain(method: str, model: Classifier, x: Tensor, depth: str = "input") -> Tensor:
    out = model.explainable(x, depth)
    return attribute(method, model, out, depth, IMAGE, TARGET, create_graph=False)


def residual_net(activation: nn.Module) -> Classifier:
    """One activation module for all places, one of them inside a residual sum; depths input, mid, final."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = activation
            self.inner, self.outer = nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.outer(self.act(self.inner(self.act(x))))
            return self.act(y) + 0.5 * y

    net = nn.Sequential(nn.Conv2d(3, 5, 3), activation, Block(), Block(), nn.Linear(5, 4)).double()
    model = Classifier(net, {"mid": ["0", "1"], "final": ["2", "3"], "logits": [global_average, "4"]})
    return model.eval()


def resnet() -> Classifier:
    net = resnet18(num_classes=4).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return Classifier(net, RESNET_STAGES).eval()


def convnext() -> Classifier:
    settings = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, 20, 1), CNBlockConfig(20, None, 1)]
    net = ConvNeXt(settings, layer_scale=1.0, num_classes=4).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Classifier(net, CONVNEXT_STAGES).eval()


class SlowRule(torch.autograd.Function):
    """An activation whose backward pass is written out, with the guided rule at its end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kind = kind
        return x.clamp(min=0) if kind == "relu" else x * normal_cdf(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = (
            (x > 0).to(x) if ctx.kind == "relu" else normal_cdf(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        )
        leaving = grads[0] * slope
        return torch.where(leaving > 0, leaving, 0.0), None


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


class SlowActivation(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = SlowRule.apply(x, self.kind)
        return result


def slow_guided_backprop(model: Classifier, x: Tensor, depth: str) -> Tensor:
    """A copy of the net with every activation replaced, and its plain gradient, one pair at a time."""
    slow, replaced = copy.deepcopy(model), {}
    for module in list(slow.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.ReLU, nn.GELU)):
                kind = type(child).__name__.lower()
                setattr(module, name, replaced.setdefault(child, SlowActivation(kind)))
    assert replaced
    features = slow.lower(x, depth).detach()
    maps = []
    for row, target in zip(IMAGE.tolist(), TARGET.tolist(), strict=True):
        leaf = features[row : row + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(slow.upper(leaf, depth).logits[0, target], leaf)
        maps.append(gradient[0].sum(0))
    return torch.stack(maps)


# By hand


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


# Against other implementations


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
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, "input"))


@pytest.mark.parametrize("depth", ["input", "mid", "final"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_module_used_many_times_beside_a_skip(activation: type[nn.Module], depth: str) -> None:
    model, x = residual_net(activation()), torch.randn(3, 3, 7, 6, dtype=torch.float64)
    ours = explain("guided_backprop", model, x, depth)
    if depth == "final":  # no activation above it
        gradient = model.net[4].weight.sum(1)[TARGET] / ours[0].numel()
        torch.testing.assert_close(ours, gradient[:, None, None].expand_as(ours))
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, depth))


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
    torch.testing.assert_close(ours, slow_guided_backprop(model, x, "input"))
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


# What a net means by it


def test_the_rule_of_a_net_is_named() -> None:
    def wrap(*layers: nn.Module) -> Classifier:
        return Classifier(nn.Sequential(*layers), {"final": ["0"], "logits": ["1"]})

    assert clamped_at(resnet()) == "relu"
    assert clamped_at(convnext()) == "gelu"
    assert clamped_at(wrap(nn.GELU(), nn.ReLU())) == "relu+gelu"
    assert clamped_at(wrap(nn.Softplus(), nn.Tanh())) == "none"


def test_pullbacks_are_not_used_and_gradients_are_needed() -> None:
    """A pullback knows the plain gradient only."""

    def forbidden(grad: Tensor, rows: Tensor | None = None) -> Tensor:
        raise AssertionError("a pullback was used")

    model = relu_resnet_tiny().double().eval()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = explain("guided_backprop", model, x)
    out = model.explainable(x, "input")
    assert out.pullbacks
    out = out._replace(pullbacks=dict.fromkeys(out.pullbacks, forbidden))
    result = attribute("guided_backprop", model, out, "input", IMAGE, TARGET, create_graph=False)
    torch.testing.assert_close(result, expected)
    model.layerwise = True
    assert all(needs_gradient(method_of(method), model) for method in GUIDED)
    assert not needs_gradient(method_of("ixg"), model)
    without = Forward(out.logits, {"input": x}, {}, out.pullbacks)
    with pytest.raises(ValueError, match="do not require grad"):
        attribute("guided_backprop", model, without, "input", IMAGE, TARGET, create_graph=False)


# Modes, errors, training


@pytest.mark.parametrize("method", GUIDED)
def test_no_pairs_give_no_maps(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is run for them: torch's native_batch_norm_backward ends the process on an empty batch."""
    model, none = residual_net(nn.ReLU()), torch.zeros(0, dtype=torch.long)
    out = model.explainable(torch.randn(2, 3, 7, 6, dtype=torch.float64), "input")
    monkeypatch.setattr(model, "upper", lambda *_: pytest.fail("ran the net for no pairs"))
    for rounds in (0, 2):
        result = attribute(method, model, out, "input", none, none, create_graph=False, rounds=rounds)
        assert result.shape == (0, 7, 6)


def test_training_mode_neither_matters_nor_changes() -> None:
    """Only for the pass of its own: statistics are neither used nor updated, and nothing is dropped out."""
    model, x = tiny(activation="relu", norm=nn.BatchNorm2d, dropout=0.5).train(), torch.randn(3, 2, 6, 6).double()
    model.net.stage2.eval()
    modes = [module.training for module in model.modules()]
    out = model.explainable(x, "input")
    statistics = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        result = attribute("guided_backprop", model, out, "input", *PAIRS, create_graph=False)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in model.state_dict().items())
    out = model.eval().explainable(x, "input")
    torch.testing.assert_close(result, attribute("guided_backprop", model, out, "input", *PAIRS, create_graph=False))


def test_nothing_is_left_behind_after_an_error() -> None:
    model, x = residual_net(nn.ReLU()), torch.randn(3, 3, 7, 6, dtype=torch.float64)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    handle = model.net[3].register_forward_pre_hook(stop)
    out = Forward(torch.zeros(3, 4), {"mid": torch.randn(3, 5, 5, 4, dtype=torch.float64).requires_grad_()}, {})
    with pytest.raises(Stop):
        attribute("guided_backprop", model, out, "mid", IMAGE, TARGET, create_graph=False)
    handle.remove()
    assert not any(module._forward_pre_hooks for module in model.modules())
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).logits.sum(), leaf)
    plain = copy.deepcopy(model)
    other = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain(other).logits.sum(), other)
    torch.testing.assert_close(gradient, expected)


def test_a_gradient_after_the_block_is_the_true_one() -> None:
    model, x = residual_net(nn.GELU()), torch.randn(1, 3, 7, 6, dtype=torch.float64).requires_grad_()
    with clamped_gradients(model):
        inside = model(x).logits.sum()
        (clamped,) = torch.autograd.grad(inside, x, retain_graph=True)
    (after,) = torch.autograd.grad(inside, x)
    (true,) = torch.autograd.grad(model(x).logits.sum(), x)
    torch.testing.assert_close(after, true)
    assert not torch.allclose(clamped, true)


@pytest.mark.parametrize("method", GUIDED)
@pytest.mark.parametrize("depth", ["input", "mid"])
def test_a_loss_on_the_maps_has_the_right_gradient(method: str, depth: str) -> None:
    """Finite differences of the images: the backward pass of the loss goes through the GELUs once more."""
    model = residual_net(nn.GELU())
    weights = torch.rand(4, 4, 3, dtype=torch.float64) if depth == "mid" else torch.rand(4, 6, 5, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        out = model(x)
        result = attribute(method, model, out, depth, IMAGE, TARGET, create_graph=True, rounds=2)
        return (weights * result).sum()

    assert torch.autograd.gradcheck(loss, torch.randn(3, 3, 6, 5, dtype=torch.float64).requires_grad_(), fast_mode=True)


def test_both_are_rows_of_the_table() -> None:
    assert set(GUIDED) <= set(ATTRIBUTIONS)
