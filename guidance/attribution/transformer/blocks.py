"""What went through a transformer block, and what happens inside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor
from torchvision.models.vision_transformer import EncoderBlock

from guidance.models.layers.fused_attention import merge_heads


class Inner(NamedTuple):
    """Of x -> y = x + attention(x) -> y + mlp(y); tokens are [B, T, D], heads [B, heads, T, d]."""

    first: Tensor  # ln_1(x)
    query: Tensor  # per head, as key and value
    key: Tensor
    value: Tensor
    mixed: Tensor  # [B, T, D], the values weighted by attention, before the output layer
    attended: Tensor  # attention(x)
    middle: Tensor  # y
    second: Tensor  # ln_2(y)
    hidden: Tensor  # [B, T, hidden], after the activation
    changed: Tensor  # mlp(y)

    @property
    def output(self) -> Tensor:
        return self.middle + self.changed


@dataclass(frozen=True)
class TracedBlock:
    """A block of a forward pass in evaluation mode, in which nothing is dropped out."""

    layer: EncoderBlock
    tokens: Tensor  # [B, T, D], what entered it
    weights: Tensor  # [B, heads, T, T]

    @cached_property
    def inner(self) -> Inner:
        """Computed again, from what entered the block and its attention weights; once, for all classes."""
        layer = self.layer
        attention, mlp = layer.self_attention, layer.mlp
        first = layer.ln_1(self.tokens)
        query, key, value = attention.project(first)
        mixed = merge_heads(self.weights @ value)
        attended = attention.out_proj(mixed)
        middle = self.tokens + attended
        second = layer.ln_2(middle)
        hidden = mlp[1](mlp[0](second))
        return Inner(first, query, key, value, mixed, attended, middle, second, hidden, mlp[3](hidden))
