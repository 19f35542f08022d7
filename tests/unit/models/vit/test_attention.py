"""The forms of attention are one function, with true first and second derivatives; fused where nothing else is needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.pullback.dynamic import linearized
from guidance.models.vit.attention import SelfAttention, attention_form


def layer() -> tuple[SelfAttention, nn.MultiheadAttention]:
    origin = nn.MultiheadAttention(8, 2, batch_first=True).double()
    nn.init.normal_(origin.in_proj_bias)
    nn.init.normal_(origin.out_proj.bias)
    return SelfAttention(origin), origin


def test_every_form_is_torchs_attention() -> None:
    ours, origin = layer()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    expected = origin(x, x, x, need_weights=False)[0]
    for form in ("fused", "explicit", "dynamic"):
        with attention_form(ours, form):  # type: ignore[arg-type]
            torch.testing.assert_close(ours(x, x, x, need_weights=False)[0], expected)
            with torch.no_grad():
                torch.testing.assert_close(ours(x)[0], expected)
    assert list(ours.state_dict()) == list(origin.state_dict())


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_first_and_second_derivatives(form: str) -> None:
    ours, _ = layer()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)

    def run(tokens: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(ours, {"in_proj_weight": weight}, (tokens,))[0]
        return result

    inputs = (x, ours.in_proj_weight.detach().clone().requires_grad_())
    with attention_form(ours, form):  # type: ignore[arg-type]
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_fused_kernels_run_wherever_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the gradient that is not differentiated again; the one that is has its weights computed."""
    calls: list[str] = []
    kernel = functional.scaled_dot_product_attention

    def counted(*arguments: Tensor) -> Tensor:
        calls.append("kernel")
        return kernel(*arguments)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    ours, _ = layer()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        ours(x)
    assert len(calls) == 1
    y = ours(x)[0]
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert len(calls) == 3
    (second,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert len(calls) == 3
    torch.testing.assert_close(first, second.detach())
    second.square().sum().backward()
    assert ours.in_proj_weight.grad is not None
    assert len(calls) == 3


def test_half_precision_is_differentiated_twice_in_full() -> None:
    ours, _ = layer()
    ours, x = ours.float(), torch.randn(2, 3, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ours(x)[0]
    assert y.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(ours(x)[0].square().sum(), x)
    torch.testing.assert_close(gradient.detach(), expected, rtol=0.1, atol=0.05)
    gradient.sum().backward()
    assert torch.isfinite(ours.in_proj_weight.grad).all()


def test_dynamic_weights_are_constants_of_a_linearised_gradient_alone() -> None:
    ours, _ = layer()
    x = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    with attention_form(ours, "dynamic"):
        y = ours(x)[0].sum()
    with attention_form(ours, "explicit"):
        (plain,) = torch.autograd.grad(ours(x)[0].sum(), x)
    (true,) = torch.autograd.grad(y, x, retain_graph=True)
    torch.testing.assert_close(true, plain)
    with linearized():
        (constant,) = torch.autograd.grad(y, x, create_graph=True)
    assert not torch.allclose(constant, plain)
    constant.square().sum().backward()
    by_queries = ours.in_proj_weight.grad[:8]
    assert by_queries.any()  # the weights of attention are trained
