"""Rollout of attention through the blocks, plain and weighted by gradients, and GradCAM of the attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.trace import Trace, token_maps


def rollout(model: Explainable, request: Request) -> Tensor:
    """Attention rollout: the class token's row of the product, from the last block to the lowest, of rownorm(mean_h A_l + I).

    Abnar & Zuidema 2020, Sec. 3. It is the same for every class: `seed` is not looked at. A row, the class token's own part
    included, sums to 1.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        return class_row([with_residual(block.weights.mean(1)) for block in trace.blocks])

    return token_maps(model, request, relevance)


def grad_rollout(model: Explainable, request: Request) -> Tensor:
    """Rollout of mean_h relu(G_l * A_l) in place of mean_h A_l.

    The method that attribution_lens compares as "Grad-Rollout", of which no code is released: gradient and attention are
    joined as in Chefer et al. 2021 (Eq. 13), with the attention itself in the place of its relevance.
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        pairs = zip(trace.attention_gradients(seed), trace.blocks, strict=True)
        return class_row([with_residual((gradient * block.weights).relu().mean(1)) for gradient, block in pairs])

    return token_maps(model, request, relevance)


def attention_gradcam(model: Explainable, request: Request) -> Tensor:
    """GradCAM of the last block's attention: relu(mean_h w_h A_h) in the class token's row, w_h the mean of G_h over patches.

    As in the code of Chefer et al. 2021, without its division by the range of a map, which would take the scale from the maps
    of two classes. It does not depend on the depth. (`gradcam` at a depth of tokens is GradCAM of their features.)
    """

    def relevance(trace: Trace, seed: Tensor) -> Tensor:
        by_head = trace.last_gradient(seed)[:, :, 1:].mean(-1, keepdim=True)
        return (by_head * trace.blocks[-1].weights[:, :, 0]).mean(1).relu()

    return token_maps(model, request, relevance)


def with_residual(attention: Tensor) -> Tensor:
    """A + I with rows that sum to 1, for A >= 0 [B, T, T]: the residual connection beside the attention."""
    total = attention + torch.eye(attention.shape[-1], device=attention.device, dtype=attention.dtype)
    return total / total.sum(-1, keepdim=True)


def class_row(matrices: Sequence[Tensor]) -> Tensor:
    """Row of the class token of M_L ... M_1, from matrices [B, T, T] in the order M_1 to M_L: [B, T]."""
    row = matrices[-1][:, :1]
    for matrix in reversed(matrices[:-1]):
        row = row @ matrix
    return row[:, 0]
