"""Dynamic factors: what depends on the input, but counts as a constant of the dynamic-linear map y = W(x) x.

B-cos nets are explained by W(x), so the gradient that gives an attribution must not reach into the factors of W(x), while a
loss on the attribution must. Detaching the factors in the forward pass would do the first and break the second. So they
stay in the graph, and only the backward pass that runs inside `linearized()` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional


class _Mode:
    # One switch of the process, neither a context variable nor thread-local: on GPUs, autograd runs in threads of its own.
    linearized = False


@contextmanager
def linearized() -> Iterator[None]:
    """Inside, gradients take dynamic factors as constants. Put it around `torch.autograd.grad` for an attribution, and
    nothing else: the backward pass of a loss on that attribution must run outside. The mode is restored in any case.
    """
    before = _Mode.linearized
    _Mode.linearized = True
    try:
        yield
    finally:
        _Mode.linearized = before


def compiling() -> bool:
    """Whether torch.compile traces what runs: the plain formulas then, which it fuses better than any function of ours.

    A compiled net is explained by its pullbacks alone, so that no gradient is taken inside `linearized()`.
    """
    return torch.compiler.is_compiling()


class _Factor(Function):
    @staticmethod
    def forward(factor: Tensor) -> Tensor:
        return factor.view_as(factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        return None if _Mode.linearized else grads[0]


def dynamic(factor: Tensor) -> Tensor:
    """`factor`, marked as a dynamic factor: a constant of gradients taken inside `linearized()`.

    The module that calls it says so by a class attribute `dynamic = True`.
    """
    if compiling():
        return factor
    result: Tensor = _Factor.apply(factor)
    return result


class _CosineProduct(Function):
    """|z| z / norm with |z| / norm as dynamic factor. One function, so that only z and norm are kept for the backward."""

    @staticmethod
    def forward(z: Tensor, norm: Tensor) -> Tensor:
        return z.abs().div_(norm).mul_(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        if grad is None:
            return None, None
        z, norm = ctx.saved_tensors
        if _Mode.linearized:
            return cosine_scale(grad, z, norm), None
        by_z = cosine_scale(grad, z, norm / 2)
        return by_z, (by_z * z).sum_to_size(norm.shape) / (-2 * norm)


class _CosineScale(Function):
    """grad |z| / norm in the type of grad. One function, so that only its arguments are kept for the backward."""

    @staticmethod
    def forward(grad: Tensor, z: Tensor, norm: Tensor) -> Tensor:
        return z.to(grad.dtype).abs().div_(norm).mul_(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (out,) = grads
        if out is None:
            return None, None, None
        grad, z, norm = ctx.saved_tensors
        scaled = cosine_scale(out, z, norm)
        by_z = (out * grad / norm * z.sign()).to(z.dtype)
        return scaled, by_z, -(scaled * grad).sum_to_size(norm.shape) / norm


def cosine_product(z: Tensor, norm: Tensor) -> Tensor:
    """|z| / norm * z, where |z| / norm = |cos(x, w)| is a dynamic factor; `norm` broadcasts to `z`."""
    if compiling():
        return z.abs() / norm * z
    result: Tensor = _CosineProduct.apply(z, norm)
    return result


def cosine_scale(grad: Tensor, z: Tensor, norm: Tensor) -> Tensor:
    """grad * |z| / norm, differentiable in all three: the adjoint of `cosine_product` as a dynamic-linear map."""
    if compiling():
        return grad * (z.to(grad.dtype).abs() / norm)
    result: Tensor = _CosineScale.apply(grad, z, norm)
    return result


class _ScaledChannels(Function):
    """x * scale by the kernels of batch norm, which are several times faster than broadcasting over channels."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        zero, one = _neutral_statistics(scale)
        return functional.batch_norm(x, zero, one, scale, eps=0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        if grad is None:
            return None, None
        x, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return scale_channels(grad, scale), (grad * x).sum((0, 2, 3)).to(scale.dtype)
        zero, one = _neutral_statistics(scale)
        mask = [*ctx.needs_input_grad, False]
        by_x, by_scale, _ = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, zero, one, zero, one, False, 0.0, mask
        )
        return by_x, by_scale


def _neutral_statistics(scale: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(scale), torch.ones_like(scale)


def scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """x [B, C, H, W] times scale [C]."""
    if compiling():
        return x * scale[:, None, None]
    result: Tensor = _ScaledChannels.apply(x, scale)
    return result


class _ChannelVariance(Function):
    """Biased variance of each channel about its mean, without keeping the deviations for the backward."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean((0, 2, 3))
        # Two passes: the variance of the deviations keeps its digits where mean^2 is much larger than the variance.
        return (x - mean[:, None, None]).square_().mean((0, 2, 3)), mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        grad = grads[0]
        if grad is None:
            return None
        x, mean = ctx.saved_tensors
        factor = grad * (2 * x.shape[1] / x.numel())
        if torch.is_grad_enabled():
            by_x: Tensor = (x - x.mean((0, 2, 3), keepdim=True)) * factor[:, None, None]
            return by_x
        return (x - mean[:, None, None]).mul_(factor[:, None, None])  # type: ignore[no-any-return]


def channel_variance(x: Tensor) -> Tensor:
    """Biased variance of each channel of [B, C, H, W] about its mean: [C]."""
    if compiling():
        return x.var((0, 2, 3), correction=0)
    result: Tensor = _ChannelVariance.apply(x)[0]
    return result


class _ChannelSquares(Function):
    """Sum of squares over the channels of each group; like x.square().sum(1), at a third of the backward's memory traffic."""

    @staticmethod
    def forward(x: Tensor, groups: int) -> Tensor:
        # promote_types would become a part of an exported graph (torch 2.6).
        full = x if x.dtype == torch.float64 else x.float()
        return torch.unflatten(full.square(), 1, (groups, -1)).sum(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        (grad,) = grads
        if grad is None:
            return None, None
        (x,) = ctx.saved_tensors
        grouped = torch.unflatten(x, 1, (grad.shape[1], -1)) * (2 * grad).unsqueeze(2)
        return grouped.flatten(1, 2).to(x.dtype), None


def channel_squares(x: Tensor, groups: int = 1) -> Tensor:
    """Sum of squares over the channels of each group: [B, C, H, W] -> [B, groups, H, W], float32 or float64."""
    if compiling():
        return _ChannelSquares.forward(x, groups)
    result: Tensor = _ChannelSquares.apply(x, groups)
    return result
