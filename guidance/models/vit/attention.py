"""Self-attention in three forms: fused, with its weights in the graph, and with its weights as a dynamic factor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from guidance.models.classifier import HasModules
from guidance.models.pullback.dynamic import dynamic

Form = Literal["fused", "explicit", "dynamic"]  # dynamic: explicit, and constants of gradients taken in linearized()


class AttentionWeights(nn.Module):
    """softmax(q k^T / sqrt(d)): [B, heads, T, d] twice -> [B, heads, T, T]. A layer of its own, so that it can be watched."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        weights: Tensor = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        return weights


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


class SelfAttention(nn.Module):
    """The self-attention of `origin`, with its parameters under their names; called as torchvision's blocks call it."""

    def __init__(self, origin: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = origin.num_heads
        self.in_proj_weight, self.in_proj_bias = origin.in_proj_weight, origin.in_proj_bias
        self.out_proj = origin.out_proj
        self.weights = AttentionWeights()
        self.form: Form = "fused"

    def forward(self, tokens: Tensor, *same: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """[B, T, D] -> [B, T, D], and None in the place of weights. `same`: keys and values, which are `tokens` again."""
        query, key, value = self.project(tokens)
        if self.form != "fused":
            weights = self.weights(query, key)
            mixed = (dynamic(weights) if self.form == "dynamic" else weights) @ value
        elif torch.is_grad_enabled():
            mixed = _Fused.apply(query, key, value)
        else:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(self.merge(mixed)), None

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] -> queries, keys and values [B, heads, T, D / heads]."""
        joint = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = torch.unflatten(joint, -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    @staticmethod
    def merge(heads: Tensor) -> Tensor:
        """[B, heads, T, d] -> [B, T, heads * d]."""
        return heads.transpose(1, 2).flatten(2)


@contextmanager
def attention_form(model: HasModules, form: Form) -> Iterator[None]:
    """Inside, every `SelfAttention` of `model` runs in this form; after it in its own, also after an exception."""
    layers = [module for module in model.modules() if isinstance(module, SelfAttention)]
    before = [layer.form for layer in layers]
    try:
        for layer in layers:
            layer.form = form
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.form = own
