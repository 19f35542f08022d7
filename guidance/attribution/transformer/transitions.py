"""Token transitions with integrated gradients of the last attention: T-attn and Bi-attn."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.trace import Trace, as_maps, in_turns, token_maps, trace


def t_attn(model: Explainable, request: Request, *, start: int = 0, steps: int = 20) -> Tensor:
    """Transition attention maps (Yuan et al. 2021): the class token's state carried down through the blocks, times W.

    s is the class token's row of mean_h A_L; then, from the last block but one down to block `start`, s <- s + s mean_h A_l,
    which is not normalised. W is `integrated_attention`. The published code starts at block 0 or 4, according to the file.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        blocks = trace.since(start, "t_attn")
        state = blocks[-1].weights.mean(1)[:, :1]
        for block in reversed(blocks[:-1]):
            state = state + state @ block.weights.mean(1)
        return state[:, 0]

    return _weighted(model, request, token_maps(model, request, relevance), steps)


def bi_attn(model: Explainable, request: Request, *, start: int = 3, steps: int = 20) -> Tensor:
    """Bidirectional attention (Chen et al. 2023): R <- R + A R over the blocks from `start` on, times W.

    A = sum_h I_h A_h, with the importances of the heads I_h = mean |A_h^T G_h|, divided by their sum. R begins as I, and its
    row of the class token is taken; W is `integrated_attention`. Block 3 is what the published code calls start layer 4.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        blocks = trace.since(start, "bi_attn")
        gradients = trace.attention_gradients(seed)[-len(blocks) :]
        row = torch.zeros_like(blocks[0].weights[:, 0, :1])
        row[:, 0, 0] = 1
        # The row of (I + A_L) ... (I + A_1), from the left: a vector instead of a matrix.
        for block, gradient in zip(reversed(blocks), reversed(gradients), strict=True):
            row = row + row @ joined_heads(block.weights, gradient)
        return row[:, 0]

    return _weighted(model, request, token_maps(model, request, relevance), steps)


def joined_heads(weights: Tensor, gradient: Tensor) -> Tensor:
    """sum_h I_h A_h [B, T, T] from attention weights and their gradient [B, heads, T, T]; zero where the gradient is."""
    return (head_importance(weights, gradient)[..., None, None] * weights).sum(1)


def head_importance(weights: Tensor, gradient: Tensor) -> Tensor:
    """I_h = mean |A_h^T G_h| of each head, divided by the sum over heads: [B, heads]; zero where the gradient is."""
    importance = (weights.transpose(-2, -1) @ gradient).abs().mean((-2, -1))
    total = importance.sum(1, keepdim=True)
    return importance / torch.where(total > 0, total, 1.0)


def integrated_attention(model: Explainable, request: Request, steps: int) -> Tensor:
    """W [M, T]: mean_h relu(mean over a of G_L(a x)) in the class token's row, for a = 0 to 1 in `steps` values, both included.

    x is the state at the depth; at the input, the image, as in the published code. Costs `steps` forward passes of the batch,
    whatever the number of classes.
    """
    if steps < 2:
        raise ValueError(f"steps of t_attn and bi_attn must be at least 2, not {steps}")
    total: Tensor | None = None
    for step in range(steps):
        traced = trace(model, request, scale=step / (steps - 1))
        part = in_turns(traced, request, traced.last_gradient)
        total = part if total is None else total + part
    assert total is not None
    return (total / steps).relu().mean(1)


def _weighted(model: Explainable, request: Request, maps: Tensor, steps: int) -> Tensor:
    return maps * as_maps(integrated_attention(model, request, steps), request)
