"""The rule of Guided Backprop: where it holds, what it needs, what it leaves behind, and training through it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS, method_of, needs_gradient
from guidance.attribution.guided_backprop import clamped_at, clamped_gradients
from guidance.models.classifier import Classifier
from guidance.types import Forward
from tests.support.explaining import attribute
from tests.support.nets import tiny
from tests.support.small_nets import relu_resnet_tiny
from tests.unit.attribution.guided_backprop.nets import IMAGE, METHODS, TARGET, convnext, explain, residual_net, resnet

PAIRS = torch.tensor([0, 2, 1]), torch.tensor([2, 0, 1])  # of a net with three classes


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
    assert all(needs_gradient(method_of(method), model) for method in METHODS)
    assert not needs_gradient(method_of("ixg"), model)
    without = Forward(out.logits, {"input": x}, {}, out.pullbacks)
    with pytest.raises(ValueError, match="do not require grad"):
        attribute("guided_backprop", model, without, "input", IMAGE, TARGET, create_graph=False)


@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("method", METHODS)
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
    assert set(METHODS) <= set(ATTRIBUTIONS)
