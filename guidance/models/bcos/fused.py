"""A B-cos convolution and the batch norm after it, as one step: the same numbers in two thirds of the memory.

What lies between the two layers, and between their pullbacks, is cheap to compute and as large as any feature, so it is
computed again in the backward pass instead of being kept. `guidance.models.bcos.modules` and `norms` are the readable form;
this file only has to agree with them, and falls back on them for another B, max-out, and statistics of several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from guidance.models.bcos.modules import BcosConv2d, patch_norm, unit_rows
from guidance.models.bcos.norms import BatchNormUncentered2d
from guidance.models.pullback.dynamic import (
    channel_variance,
    compiling,
    cosine_product,
    cosine_scale,
    dynamic,
    scale_channels,
)
from guidance.models.pullback.rules import Explained, Rows, compose, explain, pick
from guidance.models.pullback.torch_layers import convolution_adjoint, scaled_filters

aten = torch.ops.aten


def normed_bcos_conv(layer: BcosConv2d, norm: BatchNormUncentered2d, x: Tensor) -> Explained:
    """`norm(layer(x))` and its pullback."""
    if compiling() or layer.b != 2 or layer.max_out != 1 or (norm.training and norm.statistics == "sync"):
        y, through_conv = explain(layer, x)
        y, through_norm = explain(norm, y)
        return y, compose(through_conv, through_norm)
    conv, size = layer.linear, x.shape[-2:]
    weight = unit_rows(conv.weight)
    z = functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    length = patch_norm(x, conv)
    if conv.groups > 1:
        length = length.repeat_interleave(z.shape[1] // conv.groups, 1)
    if not torch.is_grad_enabled() and not norm.training:
        return _without_graph(conv, weight, norm, z, length, size)
    given = None if norm.training and norm.statistics == "local" else norm.running_var
    y, scale, var = _NormedCosine.apply(z, length, norm.weight, norm.eps, given)
    if given is None:
        norm.track(var)

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        result: Tensor = _Adjoint.apply(grad, pick(z, rows), pick(length, rows), scale, weight, conv, size)
        return result

    return y, pullback


def _without_graph(
    conv: nn.Conv2d, weight: Tensor, norm: BatchNormUncentered2d, z: Tensor, length: Tensor, size: torch.Size
) -> Explained:
    """The same where autograd records nothing, so that the dynamic factor |cos| can be kept in the place of what makes it."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    cosine, scaled = z.abs().div_(length), scaled_filters(weight, scale)

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        return convolution_adjoint(conv, scaled, pick(cosine, rows) * grad, size)

    return z.mul_(cosine).mul_(scale[:, None, None]), pullback


class _NormedCosine(Function):
    """scale_channels(cosine_product(z, norm), scale), its scale and the variance behind it; keeps only z and norm."""

    @staticmethod
    def composed(z: Tensor, norm: Tensor, weight: Tensor, eps: float, given: Tensor | None) -> tuple[Tensor, Tensor]:
        y = cosine_product(z, norm)
        scale = weight * dynamic(torch.rsqrt((channel_variance(y) if given is None else given) + eps))
        return scale_channels(y, scale), scale

    @staticmethod
    def forward(
        z: Tensor, norm: Tensor, weight: Tensor, eps: float, given: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = z.abs().div_(norm).mul_(z)
        var = channel_variance(y.to(weight.dtype)) if given is None else given
        scale = weight * torch.rsqrt(var + eps)
        return y.mul_(scale[:, None, None]), scale, var.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, norm, weight, ctx.eps, given = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(z, norm, weight, given, output[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        by_out, by_scale, _ = grads
        z, norm, weight, given, var = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _again(_NormedCosine.composed, (z, norm, weight, ctx.eps, given), (by_out, by_scale))
        inverse = torch.rsqrt(var + ctx.eps)
        scale = weight * inverse
        by_y = torch.zeros_like(z) if by_out is None else by_out * scale[:, None, None]
        y = z.abs().div_(norm).mul_(z)
        total = (y * by_out).sum((0, 2, 3)).to(weight.dtype) if by_out is not None else torch.zeros_like(weight)
        total = total if by_scale is None else total + by_scale
        if given is None:  # through the variance
            factor = total * weight * inverse**3 * (-y.shape[1] / y.numel())
            y.sub_(y.mean((0, 2, 3), keepdim=True)).mul_(factor[:, None, None])
            by_y.add_(y)
        by_z = by_y.mul_(z.abs().div_(norm / 2))
        by_norm = (by_z * z).sum_to_size(norm.shape).div_(-2 * norm)
        return by_z, by_norm, total * inverse, None, None


class _Adjoint(Function):
    """The pullback of both layers; keeps `grad` and what the forward pass keeps anyway."""

    @staticmethod
    def composed(
        grad: Tensor, z: Tensor, norm: Tensor, scale: Tensor, weight: Tensor, conv: nn.Conv2d, size: torch.Size
    ) -> Tensor:
        return convolution_adjoint(conv, weight, cosine_scale(scale_channels(grad, scale), z, norm), size)

    @staticmethod
    def scaled(grad: Tensor, z: Tensor, norm: Tensor, scale: Tensor) -> Tensor:
        return z.to(grad.dtype).abs().div_(norm).mul_(grad).mul_(scale[:, None, None])

    @staticmethod
    def forward(
        grad: Tensor, z: Tensor, norm: Tensor, scale: Tensor, weight: Tensor, conv: nn.Conv2d, size: torch.Size
    ) -> Tensor:
        return convolution_adjoint(conv, weight, _Adjoint.scaled(grad, z, norm, scale), size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.conv, ctx.size = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = grads
        grad, z, norm, scale, weight = ctx.saved_tensors
        conv = ctx.conv
        if torch.is_grad_enabled():
            return _again(_Adjoint.composed, (grad, z, norm, scale, weight, conv, ctx.size), (out,))
        geometry = (conv.stride, conv.padding, conv.dilation)
        used = _Adjoint.scaled(grad, z, norm, scale)
        by_weight = aten.convolution_backward(
            used, out, weight, None, *geometry, False, [0, 0], conv.groups, [False, True, False]
        )[1]
        by_used = functional.conv2d(out, weight, None, *geometry, conv.groups)
        by_norm = used.mul_(by_used).sum_to_size(norm.shape).div_(-norm)
        del used
        cosine = z.to(grad.dtype).abs().div_(norm)
        by_scale = cosine.mul_(by_used).mul(grad).sum((0, 2, 3)).to(scale.dtype)
        by_grad = cosine.mul_(scale[:, None, None])
        by_z = by_used.mul_(grad).mul_(scale[:, None, None]).mul_(z.sign()).div_(norm)
        return by_grad, by_z.to(z.dtype), by_norm.to(norm.dtype), by_scale, by_weight, None, None


def _again(function: Any, inputs: tuple[Any, ...], by_outputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The gradient of `function` as a function of its inputs and `by_outputs`, differentiable any number of times."""
    outputs = function(*inputs)
    pairs = zip(outputs if isinstance(outputs, tuple) else (outputs,), by_outputs, strict=False)
    known = [(y, grad) for y, grad in pairs if grad is not None]
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    found = iter(
        torch.autograd.grad([y for y, _ in known], wanted, [g for _, g in known], create_graph=True, allow_unused=True)
    )
    return tuple(next(found) if isinstance(x, Tensor) and x.requires_grad else None for x in inputs)


# Layers that are cheaper as one step; `guidance.models.bcos.cnns` makes them known.
FUSED: Mapping[tuple[type, type], Callable[[Any, Any, Tensor], Explained]] = {
    (BcosConv2d, BatchNormUncentered2d): normed_bcos_conv,
}
