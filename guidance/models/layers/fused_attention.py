"""torch's fused attention with a gradient that can be differentiated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: [..., T, d], [..., S, d] and [..., S, e] -> [..., T, e]; differentiable twice."""
    if not torch.is_grad_enabled():
        return functional.scaled_dot_product_attention(query, key, value)
    result: Tensor = _Fused.apply(query, key, value)
    return result


def self_attention(layer: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """What `layer`, without masks, dropout and biases of keys, makes of [B, T, D] as queries, keys and values: [B, T, D]."""
    query, key, value = project_heads(tokens, layer.in_proj_weight, layer.in_proj_bias, layer.num_heads)
    mixed: Tensor = layer.out_proj(merge_heads(fused_attention(query, key, value)))
    return mixed


def project_heads(tokens: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T, D] -> queries, keys and values [B, heads, T, D / heads], by a joint projection [3 * D, D]."""
    joint = functional.linear(tokens, weight, bias)
    query, key, value = torch.unflatten(joint, -1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return query, key, value


def merge_heads(heads: Tensor) -> Tensor:
    """[B, heads, T, d] -> [B, T, heads * d]."""
    return heads.transpose(1, 2).flatten(2)


class _Fused(Function):
    """torch's fused attention, whose weights are never stored, with a gradient that can be differentiated.

    The fused kernels have no double backward (torch 2.14), which a loss on attributions needs. So the gradient is written out
    where it will be differentiated itself, with the weights computed again; everywhere else the fused kernel gives it.
    """

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        (grad,) = grads
        if torch.is_grad_enabled():
            return _written_out(grad, *ctx.saved_tensors)
        inputs = tuple(x.detach().requires_grad_() for x in ctx.saved_tensors)
        with torch.enable_grad():
            return torch.autograd.grad(functional.scaled_dot_product_attention(*inputs), inputs, grad)


def _written_out(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of softmax(q k^T / sqrt(d)) v by its three arguments, in operations that can be differentiated."""
    dtype = query.dtype
    g, q, k, v = (x.to(torch.promote_types(dtype, torch.float32)) for x in (grad, query, key, value))
    scale = q.shape[-1] ** -0.5
    weights = (q @ k.transpose(-2, -1) * scale).softmax(-1)
    by_weights = g @ v.transpose(-2, -1)
    by_scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdim=True)) * scale
    found = by_scores @ k, by_scores.transpose(-2, -1) @ q, weights.transpose(-2, -1) @ g
    return found[0].to(dtype), found[1].to(dtype), found[2].to(dtype)
