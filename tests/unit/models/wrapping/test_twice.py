"""What has no second derivative in torch, called as a function or inside attention, has one in a wrapped net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.layers import twice
from guidance.models.layers.twice import FUNCTIONS
from guidance.models.wrapping import wrap
from tests.unit.models.wrapping.steps import check_gradients, guided_loss, wrapped

SHAPE = (2, 2, 5, 4)
MASK = torch.tensor([[0.0, -1.0, -2.0, 0.5, 0.0]] * 5, dtype=torch.float64)
ATTENTION: dict[str, Callable[[Callable[..., Tensor], Tensor], Tensor]] = {
    "plain": lambda f, x: f(x, x + 1, 2 * x),
    "scaled": lambda f, x: f(x, x + 1, 2 * x, scale=0.3),
    "causal": lambda f, x: f(x, x + 1, 2 * x, is_causal=True),
    "masked": lambda f, x: f(x, x + 1, 2 * x, MASK),
    "masked by name": lambda f, x: f(x, x + 1, 2 * x, attn_mask=MASK, dropout_p=0.0),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_equal_and_differentiable_twice(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    call = ATTENTION[name]
    found = []
    for function in (FUNCTIONS[functional.scaled_dot_product_attention], functional.scaled_dot_product_attention):
        y = call(function, x)
        found.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    small = torch.randn(1, 1, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: call(FUNCTIONS[functional.scaled_dot_product_attention], x), (small,))


@pytest.mark.parametrize("name", ["hardsigmoid", "hardswish"])
def test_the_functions_are_equal(name: str) -> None:
    x = torch.linspace(-5, 5, 40, dtype=torch.float64)
    torch.testing.assert_close(getattr(twice, name)(x), getattr(functional, name)(x), rtol=1e-12, atol=1e-12)


def test_vectors_of_zeros_are_normalised_differentiably_twice() -> None:
    """Bit for bit as torch's; with a vector of zeros, which is where its second derivative is NaN, and one below epsilon."""
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    x[0, 1], x[2, 3] = 0, 1e-14
    for options in ({"dim": -1}, {"p": 1.0}, {"p": 2, "dim": -1, "eps": 1e-3}):
        found = []
        for function in (FUNCTIONS[functional.normalize], functional.normalize):
            given = x.clone().requires_grad_()
            y = function(given, **options)
            found.append((y, *torch.autograd.grad(y.square().sum(), given)))
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)
    given = x.requires_grad_()
    (gradient,) = torch.autograd.grad(twice.normalize(given, dim=-1).square().sum(), given, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), given)
    assert torch.isfinite(second).all()
    torch.testing.assert_close(second[0, 1], torch.full((5,), 2e24, dtype=torch.float64))  # 2 / eps^2
    smooth = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(twice.normalize, (smooth,))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"need_weights": False}, {"need_weights": False, "attn_mask": MASK[:3, :3]}])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_layers_are_equal(training: bool, options: dict[str, Any], batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=batch_first, dtype=torch.float64).train(training)
    x = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    expected = layer(x, x, x, **options)
    twice.replace_calls([layer])
    found = layer(x, x, x, **options)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, x, x, **options)[0], (x,))


class Attending(nn.Module):
    """Tokens that attend in each way that people call it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 3)
        self.mixed = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True)
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.mixed(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.gate(self.encoder(tokens))
        tokens = tokens + functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.fc(functional.hardsigmoid(tokens).mean(1))


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * functional.hardsigmoid(functional.scaled_dot_product_attention(x, x, x), inplace=True)


@pytest.mark.parametrize("depths", [{"final": "patches"}, {"final": "gate"}, {"final": "encoder"}])
def test_a_net_that_attends_is_guided(depths: dict[str, str]) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    model = wrapped(Attending().double(), images, depths)
    check_gradients(model, images, "input")


def test_untraceable_nets_too() -> None:
    """The whole net is one call then."""

    class Branching(Attending):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.shape[2] < 1000 else x[:, :, ::2])

    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    model = wrapped(Branching().double(), images, {"final": "gate"})
    check_gradients(model, images, "final")


def test_a_net_wrapped_again_is_the_same() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    net = Attending().double().eval()
    first = guided_loss(wrap(net, {"final": "gate"}, example=images), images, "input")
    assert torch.equal(guided_loss(wrap(net, {"final": "gate"}, example=images), images, "input"), first)
