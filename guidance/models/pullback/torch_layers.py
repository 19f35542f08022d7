"""The pullbacks of torch's own layers: outputs and pullbacks side by side.

The layers keep their own forward, with its hooks. `torch.ops.aten.*_backward` are the kernels of the layers' own backward
passes, used as functions: they are fast, and differentiable in the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.layers.normalization import FrozenBatchNorm2d, SyncBatchNorm2d
from guidance.models.pullback.rules import Explained, Rows, chain, explain, pick, rearrange


def sequential(layer: nn.Sequential, x: Tensor) -> Explained:
    return chain(x, tuple(layer))


def identity(layer: nn.Identity, x: Tensor) -> Explained:
    return layer(x), lambda grad, rows=None: grad


def dropout(layer: nn.Dropout | nn.Dropout2d, x: Tensor) -> Explained:
    # In training it drops by a mask that it keeps for itself.
    return layer(x), None if layer.training else lambda grad, rows=None: grad


def flatten(layer: nn.Flatten, x: Tensor) -> Explained:
    shape = x.shape[1:]
    return rearrange(x, layer, lambda grad: grad.reshape(-1, *shape))


def linear(layer: nn.Linear, x: Tensor) -> Explained:
    return layer(x), lambda grad, rows=None: grad @ layer.weight


def convolution(layer: nn.Conv2d, x: Tensor) -> Explained:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return layer(x), None
    size = x.shape[-2:]
    return layer(x), lambda grad, rows=None: convolution_adjoint(layer, layer.weight, grad, size)


def convolution_adjoint(layer: nn.Conv2d, weight: Tensor, grad: Tensor, size: torch.Size) -> Tensor:
    """The transpose of `layer` with `weight`, for an input of `size` (H, W).

    As a transposed convolution, whose own backward is two plain convolutions; the double backward of a strided
    convolution takes a much slower way to the weights.
    """
    padding = [int(side) for side in layer.padding]
    missing = [
        side - ((small - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1)
        for side, small, stride, pad, dilation, kernel in zip(
            size, grad.shape[-2:], layer.stride, padding, layer.dilation, layer.kernel_size, strict=True
        )
    ]
    return functional.conv_transpose2d(grad, weight, None, layer.stride, padding, missing, layer.groups, layer.dilation)


def relu(layer: nn.ReLU, x: Tensor) -> Explained:
    y = layer(x)
    active = y.detach()
    return y, lambda grad, rows=None: torch.ops.aten.threshold_backward(grad, pick(active, rows), 0)


def max_pool(layer: nn.MaxPool2d, x: Tensor) -> Explained:
    settings = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        inputs = pick(x.detach(), rows).to(grad.dtype)
        # The winners are found again, for the rows asked for, because holding their int64 indices costs more than x.
        _, winners = functional.max_pool2d(inputs, *settings, return_indices=True)
        sides = [[side, side] if isinstance(side, int) else side for side in settings[:4]]
        result: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(grad, inputs, *sides, layer.ceil_mode, winners)
        return result

    return layer(x), pullback


def average_pool(layer: nn.AvgPool2d, x: Tensor) -> Explained:
    sides = [
        [side, side] if isinstance(side, int) else side for side in (layer.kernel_size, layer.stride, layer.padding)
    ]
    settings = (*sides, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
    shape = x.shape[1:]

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        like = grad.new_empty(()).expand(grad.shape[0], *shape)  # only its shape counts
        result: Tensor = torch.ops.aten.avg_pool2d_backward(grad, like, *settings)
        return result

    return layer(x), pullback


def adaptive_average_pool(layer: nn.AdaptiveAvgPool2d, x: Tensor) -> Explained:
    size = x.shape[-2:]
    if layer.output_size in (tuple(size), size[0] if size[0] == size[1] else None):  # every cell is a mean of itself
        return layer(x), lambda grad, rows=None: grad
    if layer.output_size not in (1, (1, 1)):
        return layer(x), None
    return layer(x), lambda grad, rows=None: (grad / size.numel()).expand(-1, -1, *size)


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> Explained:
    if layer.training or layer.running_var is None:  # batch statistics: a map of one row would reach into the others
        return layer(x), None
    return layer(x), lambda grad, rows=None: grad * running_scale(layer)


def running_scale(layer: nn.BatchNorm2d) -> Tensor:
    """What a norm with running statistics multiplies each channel by: [C, 1, 1]."""
    assert layer.running_var is not None
    scale = torch.rsqrt(layer.running_var + layer.eps)
    return (scale if layer.weight is None else scale * layer.weight)[:, None, None]


def frozen_batch_norm(layer: FrozenBatchNorm2d, x: Tensor) -> Explained:
    return layer(x), lambda grad, rows=None: grad * running_scale(layer)


def normed_convolution(layer: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Explained:
    """`norm(layer(x))` as one step: W^T (s g) = (s W)^T g, and the weight is far smaller than the gradient."""
    y, through_layer = explain(layer, x)
    y, through_norm = explain(norm, y)
    if through_layer is None or through_norm is None:
        return y, None
    size = x.shape[-2:]
    # Where autograd records nothing, the scale cannot change any more, and serves all rows that will be asked for.
    constant = None if torch.is_grad_enabled() else scaled_filters(layer.weight, running_scale(norm))

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        weight = scaled_filters(layer.weight, running_scale(norm)) if constant is None else constant
        return convolution_adjoint(layer, weight, grad, size)

    return y, pullback


def scaled_filters(weight: Tensor, scale: Tensor) -> Tensor:
    """Filters [O, ...] of a convolution, each times its entry of `scale` [O, 1, 1] or [O]."""
    return weight * scale.view(-1, *[1] * (weight.dim() - 1))


# Kind of layer -> its output and pullback; `guidance.models.classifier` makes them known.
RULES: Mapping[type, Callable[[Any, Tensor], Explained]] = {
    nn.Sequential: sequential,
    nn.Identity: identity,
    nn.Dropout: dropout,
    nn.Dropout2d: dropout,
    nn.Flatten: flatten,
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.ReLU: relu,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: average_pool,
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.BatchNorm2d: batch_norm,
    SyncBatchNorm2d: batch_norm,
    FrozenBatchNorm2d: frozen_batch_norm,
}

# Layers that are cheaper as one step (`rules.PAIRS`).
STEPS: Mapping[tuple[type, type], Callable[[Any, Any, Tensor], Explained]] = {
    (nn.Conv2d, nn.BatchNorm2d): normed_convolution,
    (nn.Conv2d, FrozenBatchNorm2d): normed_convolution,
}
