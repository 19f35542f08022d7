"""B-cos layers: y = |cos(x, w)|^(B-1) * w_hat . x with w_hat = w / ||w|| (Böhle et al. 2024, "B-cos alignment", Eq. 3).

Weights have no bias and keep the names of the published state dicts. Of the map y = W(x) x, |cos|^(B-1) is the dynamic
factor. A filter of all-zero weights gives 0, where the published code divides by zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.pullback.dynamic import channel_squares, cosine_product, cosine_scale, dynamic
from guidance.models.pullback.rules import Explained, Layer, Pullback, Rows, pick
from guidance.models.pullback.torch_layers import convolution_adjoint
from guidance.types import lookup


class BcosConv2d(Layer):
    """B-cos convolution of the arguments of nn.Conv2d: [B, C, H, W] -> [B, out_channels, h, w].

    `b` is the exponent B, at least 1 (1: linear). `max_out`: every output channel is the largest of this many filters,
    chosen before the cosine. ||x|| is taken over the patch and the channels of the group, zero padding included, with
    1e-6 added to its square.
    """

    dynamic = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 1,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        b: float = 2.0,
        max_out: int = 1,
    ) -> None:
        super().__init__()
        self.b, self.max_out = _checked(b), max_out
        self.linear = nn.Conv2d(
            in_channels, out_channels * max_out, kernel_size, stride, padding, dilation, groups, bias=False
        )

    def explain(self, x: Tensor) -> Explained:
        conv, size = self.linear, x.shape[-2:]
        weight = unit_rows(conv.weight)
        z = functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        z, spread = max_out(z, self.max_out)
        norm = patch_norm(x, conv)
        if conv.groups > 1:
            norm = norm.repeat_interleave(z.shape[1] // conv.groups, 1)
        y, scale = cosine(z, norm, self.b)

        def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
            return convolution_adjoint(conv, weight, spread(scale(grad, rows), rows), size)

        return y, pullback

    def extra_repr(self) -> str:
        return f"b={self.b}, max_out={self.max_out}"


class BcosLinear(Layer):
    """B-cos on the last dimension: [..., in_features] -> [..., out_features].

    As in the released code, 1e-12 is added to ||x||.
    """

    dynamic = True

    def __init__(self, in_features: int, out_features: int, *, b: float = 2.0, max_out: int = 1) -> None:
        super().__init__()
        self.b, self.max_out = _checked(b), max_out
        self.linear = nn.Linear(in_features, out_features * max_out, bias=False)

    def explain(self, x: Tensor) -> Explained:
        weight = unit_rows(self.linear.weight)
        z, spread = max_out(functional.linear(x, weight), self.max_out, dim=-1)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-12
        y, scale = cosine(z, norm, self.b)
        return y, lambda grad, rows=None: spread(scale(grad, rows), rows) @ weight

    def extra_repr(self) -> str:
        return f"b={self.b}, max_out={self.max_out}"


class LogitBias(Layer):
    """Adds one constant to every logit. In the released code: ln(0.001 / 0.999) = -ln(999), for any number of classes."""

    PUBLISHED = -6.906754778648554

    def __init__(self, bias: float = PUBLISHED) -> None:
        super().__init__()
        self.bias = bias

    def explain(self, x: Tensor) -> Explained:
        return x + self.bias, lambda grad, rows=None: grad

    def extra_repr(self) -> str:
        return f"{self.bias:g}"


LOGIT_BIASES: Mapping[str, Callable[[int], float]] = {
    "published": lambda num_classes: LogitBias.PUBLISHED,
    "classes": lambda num_classes: -math.log(num_classes - 1),  # sigmoid starts at 1 / K
}


def set_logit_bias(net: nn.Module, choice: str, *, num_classes: int) -> None:
    """Give every logit bias of `net` the value that LOGIT_BIASES has for `choice`. "published" suits any net.

    Raises ValueError for another choice where the net has no logit bias, or where there are fewer than two classes.
    """
    value = lookup(LOGIT_BIASES, choice, "model.logit_bias")
    layers = [module for module in net.modules() if isinstance(module, LogitBias)]
    if choice == "published" and not layers:
        return
    if not layers:
        raise ValueError(
            f"model.logit_bias: only B-cos nets have a constant logit bias, so {choice!r} has no meaning here"
        )
    if num_classes < 2 and choice == "classes":
        raise ValueError(f"model.logit_bias: 'classes' is -ln(K - 1) and needs at least 2 classes, not {num_classes}")
    for layer in layers:
        layer.bias = value(num_classes)


def _checked(b: float) -> float:
    if b < 1:
        raise ValueError(f"the exponent B of a B-cos layer must be at least 1, not {b}")
    return b


def unit_rows(weight: Tensor) -> Tensor:
    """Each filter [O, ...] divided by its Euclidean norm."""
    norm = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)
    return weight / torch.where(norm == 0, 1.0, norm)


def patch_norm(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """||x|| of the patch under each output of `conv`: [B, C, H, W] -> [B, groups, h, w]."""
    squares = channel_squares(x, conv.groups)
    pad = [int(side) for side in conv.padding]
    if conv.dilation == (1, 1) and all(2 * p <= k for p, k in zip(pad, conv.kernel_size, strict=True)):
        total = functional.avg_pool2d(squares, conv.kernel_size, conv.stride, pad, divisor_override=1)
    else:
        ones = squares.new_ones(conv.groups, 1, *conv.kernel_size)
        total = functional.conv2d(squares, ones, None, conv.stride, pad, conv.dilation, conv.groups)
    return (total + 1e-6).sqrt()


def max_out(z: Tensor, size: int, dim: int = 1) -> tuple[Tensor, Pullback]:
    """The largest of each `size` consecutive entries of `dim`; its pullback gives the gradient to the winners."""
    if size == 1:
        return z, lambda grad, rows=None: grad
    dim = dim % z.dim() + 1
    y, winner = torch.unflatten(z, dim - 1, (-1, size)).max(dim)

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        index = pick(winner, rows).unsqueeze(dim)
        spread = torch.zeros_like(grad).unsqueeze(dim).repeat_interleave(size, dim)
        return spread.scatter(dim, index, grad.unsqueeze(dim)).flatten(dim - 1, dim)

    return y, pullback


def cosine(z: Tensor, norm: Tensor, b: float) -> tuple[Tensor, Pullback]:
    """|z / norm|^(B-1) * z and its pullback. As in the released code, 1e-6 is added to |z / norm| where B is not 1 or 2."""
    if b == 1:
        return z, lambda grad, rows=None: grad
    if b == 2:
        return cosine_product(z, norm), lambda grad, rows=None: cosine_scale(grad, pick(z, rows), pick(norm, rows))
    factor = dynamic(((z / norm).abs() + 1e-6).pow(b - 1))
    return factor * z, lambda grad, rows=None: grad * pick(factor, rows)
