"""Pullbacks of layers against explicit matrices, against autograd's double backward, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from guidance.models.bcos.vit import Patches
from guidance.models.pullback.dynamic import linearized
from guidance.models.pullback.rules import explain
from tests.reference.bcos import matrices
from tests.unit.models.pullback.layers import LAYERS, check_gradient, randomised


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_pullback_is_the_transposed_explicit_matrix(name: str, training: bool) -> None:
    make, shape = LAYERS[name]
    layer = randomised(make()).train(training)
    x = torch.randn(3, *shape, dtype=torch.float64)
    y, pullback = explain(layer, x)
    assert pullback is not None
    expected = matrices(layer, x)
    bias = getattr(layer, "bias", None)
    flat = (expected @ x.flatten(1)[:, :, None])[:, :, 0].view(y.shape)
    if isinstance(bias, Tensor):
        flat = flat + (bias[:, None, None] if y.dim() == 4 else bias)
    torch.testing.assert_close(y, flat)
    rows = torch.tensor([2, 0, 2, 1])
    grad = torch.randn(4, *y.shape[1:], dtype=torch.float64)
    wanted = (grad.flatten(1)[:, None] @ expected[rows])[:, 0].view(4, *shape)
    torch.testing.assert_close(pullback(grad, rows), wanted)
    torch.testing.assert_close(pullback(grad[:3]), (grad[:3].flatten(1)[:, None] @ expected)[:, 0].view(x.shape))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_linear_in_linearized_mode(name: str) -> None:
    """Autograd's gradient in linearized mode is the pullback: the oracle of all nets, checked for each layer."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    y, pullback = explain(layer, x)
    grad = torch.randn_like(y)
    with linearized():
        (gradient,) = torch.autograd.grad(y, x, grad)
    assert pullback is not None
    torch.testing.assert_close(gradient, pullback(grad))


@pytest.mark.parametrize("through", ["pullback", "double_backward"])
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("relu", "max_pool", "average_pool")])
def test_loss_on_the_map_of_a_layer_has_the_gradient_of_finite_differences(name: str, through: str) -> None:
    """A forward pass that detaches the dynamic factors fails this."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, *shape, dtype=torch.float64)

    def loss() -> Tensor:
        y, pullback = explain(layer, x)
        grad = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
        if through == "pullback":
            assert pullback is not None
            map_ = pullback(grad)
        else:
            with linearized():
                (map_,) = torch.autograd.grad(y, x, grad, create_graph=True)
        return (map_ * x * weights).sum() + (map_**2 * weights).sum()

    check_gradient(loss, [x, *layer.parameters()])


@pytest.mark.parametrize("name", ["bcos_conv", "attention", "batch_norm_uncentered", "layer_norm", "bcos_linear"])
def test_ordinary_gradients_of_fused_layers_are_right(name: str) -> None:
    """Outside linearized mode a layer has the plain first and second derivatives of its output."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return layer(x)

    assert torch.autograd.gradcheck(output, (x, *parameters))
    assert torch.autograd.gradgradcheck(output, (x, *parameters), fast_mode=True)


def test_patches_are_cut_row_by_row_with_channels_fastest() -> None:
    x = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    patches = Patches(2)(x)
    assert patches.shape == (1, 2, 2, 8)
    assert patches[0, 0, 1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]
    assert torch.equal(Patches(2)(x[:, :, :2]), patches[:, :1])  # an image need not be square
    with pytest.raises(ValueError, match="multiples of"):
        Patches(3)(x)
