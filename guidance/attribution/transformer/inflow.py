"""InFlow: attention, its gradient by a block's own prediction, and both residual connections of every block."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.blocks import TracedBlock
from guidance.attribution.transformer.rollout import class_row
from guidance.attribution.transformer.trace import Trace, token_maps
from guidance.attribution.transformer.transitions import head_importance
from guidance.models.vit.net import class_token


def inflow(model: Explainable, request: Request) -> Tensor:
    """InFlow (Walker et al. 2025): the class token's row of the product of what flows through each block.

    For block l, x -> y = x + a(x) -> y + m(y), with the importances I_h of its heads as in `bi_attn`:
    H = max_h(I_h A_h) * relu(mean_h of the gradient by A_h of the class probability that the block's own output gives);
    R1 = diag(|a|) H + diag(|x|), the norms of each token divided by their sum; R2 = diag(r |m| + |y|), norms alike, with
    r = |m| / |y| divided by its sum over tokens; M = R1 R2 with rows that sum to 1. H is not normalised by itself, nor are its
    signs and scale those of a logit: a map says where, not how much. The class probability is the softmax.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        pairs = zip(trace.blocks, trace.attention_gradients(seed), strict=True)
        return class_row([_flow(trace, block, gradient, seed) for block, gradient in pairs])

    return token_maps(model, request, relevance)


def _flow(trace: Trace, block: TracedBlock, gradient: Tensor, seed: Tensor) -> Tensor:
    """M of a block [B, T, T]."""
    by_head = head_importance(block.weights, gradient)[..., None, None] * block.weights
    parts = block.inner
    attention = by_head.amax(1) * _own_gradient(trace, block, parts.output, seed).mean(1).relu()
    kept, added = _shares(block.tokens, parts.attended)
    first = added[..., None] * attention + torch.diag_embed(kept)
    kept, added = _shares(parts.middle, parts.changed)
    ratio = _norm(parts.changed) / _norm(parts.middle).clamp_min(_tiny(kept))
    ratio = ratio / ratio.sum(1, keepdim=True).clamp_min(_tiny(ratio))
    flow = first * (ratio * added + kept)[:, None]
    return flow / flow.sum(-1, keepdim=True).clamp_min(_tiny(flow))


def _own_gradient(trace: Trace, block: TracedBlock, output: Tensor, seed: Tensor) -> Tensor:
    """Gradient of the probability of the seed's class, read from the block's output, by its attention [B, heads, T, T]."""
    logits = trace.net.heads(class_token(trace.net.encoder.ln(output)))
    total = (logits.softmax(1) * seed).sum()
    (gradient,) = torch.autograd.grad(total, block.weights, retain_graph=True, create_graph=trace.create_graph)
    return gradient


def _shares(kept: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the two parts of a sum of tokens [B, T, D], divided by their sum: [B, T] each."""
    first, second = _norm(kept), _norm(added)
    total = (first + second).clamp_min(_tiny(first))
    return first / total, second / total


def _norm(tokens: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tokens, dim=-1)
    return norm


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
