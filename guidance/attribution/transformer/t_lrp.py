"""Transformer attribution by layer-wise relevance propagation (T-LRP)."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.relevance import of_class_token, through_block
from guidance.attribution.transformer.rollout import class_row, with_residual
from guidance.attribution.transformer.trace import Trace, token_maps


def t_lrp(model: Explainable, request: Request) -> Tensor:
    """Rollout of mean_h relu(G_l * R_l), R_l the relevance of the attention of block l (Chefer et al. 2021, Eq. 13 and 14).

    The relevance begins as the seed at the logits and is propagated by the rules of `relevance`, with alpha = 1. All blocks
    above the depth take part, as in the published code's "transformer_attribution" from layer 0.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        matrices = []
        for own, gradient in zip(attention_relevances(trace, seed), trace.attention_gradients(seed), strict=True):
            matrices.append(with_residual((gradient * own).relu().mean(1)))
        return class_row(matrices)

    return token_maps(model, request, relevance)


def attention_relevances(trace: Trace, seed: Tensor) -> list[Tensor]:
    """R_l of every block [B, heads, T, T], for seeds [B, K]."""
    with torch.set_grad_enabled(trace.create_graph):
        tokens = trace.net.encoder.ln(trace.blocks[-1].inner.output)
        current = of_class_token(tokens, trace.net.heads.head, seed)
        found = []
        for block in reversed(trace.blocks):
            current, own = through_block(block, current)
            found.append(own)
    return found[::-1]
