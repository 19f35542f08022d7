"""Layer-wise relevance propagation through a transformer block (Chefer et al. 2021, Sec. 3.1 and 3.2), with alpha = 1.

A layer passes the relevance of its output down to its input, in the shape of the input. Layer norms, the activation and the
softmax pass it as it is. Tokens are [B, T, D].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guidance.attribution.transformer.blocks import TracedBlock
from guidance.models.layers.fused_attention import merge_heads

EPS = 1e-9  # of the published code, which adds it whatever the sign; here it moves denominators away from zero


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, or 0 where b is 0."""
    safe = b + EPS * torch.where(b < 0, -1.0, 1.0)
    return torch.where(b == 0, 0.0, a / safe)


def through_linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """The rule with alpha = 1, beta = 0 (Eq. 4): shared by the positive products x_i w_ji alone. Conserves it; no bias.

    Where an output has no positive product, its relevance is lost.
    """
    up, down = weight.clamp_min(0), weight.clamp_max(0)
    high, low = x.clamp_min(0), x.clamp_max(0)
    share = divide(relevance, high @ up.T + low @ down.T)
    return high * (share @ up) + low * (share @ down)


def through_sum(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Shared in proportion to the parts of a sum, then each part's total scaled so that both conserve it (Eq. 9 and 10)."""
    share = divide(relevance, first + second)
    parts = first * share, second * share
    sums = [part.sum((1, 2), keepdim=True) for part in parts]
    magnitude = sums[0].abs() + sums[1].abs()
    total = relevance.sum((1, 2), keepdim=True)
    a, b = (part * divide(divide(own.abs(), magnitude) * total, own) for part, own in zip(parts, sums, strict=True))
    return a, b


def through_product(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Of a matrix product first @ second, half to each factor (as in the published code), which conserves it together."""
    share = divide(relevance, first @ second) / 2
    return first * (share @ second.transpose(-2, -1)), second * (first.transpose(-2, -1) @ share)


def through_block(block: TracedBlock, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of a block's output [B, T, D] -> that of its input [B, T, D], and that of its attention [B, heads, T, T]."""
    parts, layer = block.inner, block.layer
    attention, mlp = layer.self_attention, layer.mlp
    skipped, through = through_sum(parts.middle, parts.changed, relevance)
    through = through_linear(parts.hidden, mlp[3].weight, through)
    through = skipped + through_linear(parts.second, mlp[0].weight, through)
    skipped, through = through_sum(block.tokens, parts.attended, through)
    through = through_linear(parts.mixed, attention.out_proj.weight, through)
    of_heads = torch.unflatten(through, -1, (attention.heads, -1)).transpose(1, 2)
    of_weights, of_values = through_product(block.weights, parts.value, of_heads)
    of_queries, of_keys = through_product(parts.query, parts.key.transpose(-2, -1), of_weights)
    joint = [merge_heads(part) for part in (of_queries, of_keys.transpose(-2, -1), of_values)]
    return skipped + through_linear(parts.first, attention.in_proj_weight, torch.cat(joint, dim=-1)), of_weights


def of_class_token(tokens: Tensor, head: nn.Linear, seed: Tensor) -> Tensor:
    """Relevance of the tokens [B, T, D] that the classifier reads, of which it reads the class token, from seeds [B, K]."""
    found = torch.zeros_like(tokens)
    found[:, 0] = through_linear(tokens[:, 0], head.weight, seed)
    return found
