"""Self-attention in three forms: fused, with its weights in the graph, and with its weights as a dynamic factor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

from guidance.models.classifier import HasModules
from guidance.models.layers.fused_attention import fused_attention, merge_heads, project_heads
from guidance.models.pullback.dynamic import dynamic

Form = Literal["fused", "explicit", "dynamic"]  # dynamic: explicit, and constants of gradients taken in linearized()


class AttentionWeights(nn.Module):
    """softmax(q k^T / sqrt(d)): [B, heads, T, d] twice -> [B, heads, T, T]. A layer of its own, so that it can be watched."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        weights: Tensor = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        return weights


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
        else:
            mixed = fused_attention(query, key, value)
        return self.out_proj(merge_heads(mixed)), None

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] -> queries, keys and values [B, heads, T, D / heads]."""
        return project_heads(tokens, self.in_proj_weight, self.in_proj_bias, self.heads)


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
