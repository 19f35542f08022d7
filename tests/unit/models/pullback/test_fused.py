"""A convolution and its norm as one step of a pullback."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance.models.bcos.modules import BcosConv2d
from guidance.models.bcos.norms import BatchNormUncentered2d
from guidance.models.pullback.rules import Explained, chain, compose, explain
from tests.unit.models.pullback.layers import randomised


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize("settings", [{}, {"groups": 2}, {"b": 1.5}, {"max_out": 2}], ids=str)
def test_fused_convolution_and_norm_equal_the_two_layers(mode: str, settings: dict[str, Any]) -> None:
    """Also for another B and for max-out, which are not fused."""
    conv = BcosConv2d(4, 6, 3, stride=2, padding=1, **settings).double()
    norms = [randomised(BatchNormUncentered2d(6)).train(mode != "eval") for _ in range(2)]
    norms[1].load_state_dict(norms[0].state_dict())
    for norm in norms:
        norm.statistics = "frozen" if mode == "frozen" else "local"
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([2, 0])
    results = []
    for run, norm in ((chain, norms[0]), (apart, norms[1])):
        y, pullback = run(x, (conv, norm))
        assert pullback is not None
        map_ = pullback(torch.ones_like(y)[rows] * torch.arange(1.0, 3.0).double()[:, None, None, None], rows)
        wanted = [x, *conv.parameters(), norm.weight]
        for output in (y.pow(2).sum(), map_.pow(2).sum(), y.pow(2).sum() + map_.pow(3).sum()):
            results.append(torch.autograd.grad(output, wanted, retain_graph=True, allow_unused=True))
        results.append((y, map_, norm.running_var, norm.num_batches_tracked))
    assert len(results) == 8
    for fused, plain in zip(results[:4], results[4:], strict=True):
        torch.testing.assert_close(fused, plain)


def apart(x: Tensor, layers: tuple[nn.Module, nn.Module]) -> Explained:
    y, first = explain(layers[0], x)
    y, second = explain(layers[1], y)
    return y, compose(first, second)


@pytest.mark.parametrize("training", [False, True])
def test_fused_convolution_and_norm_have_right_first_and_second_derivatives(training: bool) -> None:
    conv = BcosConv2d(2, 3, 2).double()
    norm = randomised(BatchNormUncentered2d(3)).train(training)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def both(x: Tensor, grad: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        y, pullback = chain(x, (conv, norm))
        assert pullback is not None
        return y, pullback(grad)

    inputs = (x, grad, *conv.parameters(), *norm.parameters())
    assert torch.autograd.gradcheck(both, inputs)
    assert torch.autograd.gradgradcheck(both, inputs, fast_mode=True)
