"""Slow layer-wise relevance propagation (alpha = 1) through a ViT, one image and one class; see attention.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.reference.attention import Row, Slow, gradients, positive_mean, product, residual


def share_linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_i = sum_j (x_i w_ji)+ / sum_i' (x_i' w_ji')+ R_j, token by token."""
    result = torch.zeros_like(x)
    for t in range(len(x)):
        for j in range(len(weight)):
            parts = [max(float(v), 0.0) for v in x[t] * weight[j]]
            for i, part in enumerate(parts):
                if sum(parts) > 0:
                    result[t, i] += part / sum(parts) * float(relevance[t, j])
    return result


def share_sum(parts: tuple[Tensor, Tensor], relevance: Tensor) -> list[Tensor]:
    shares = [torch.where(part == 0, 0.0, part * relevance / (parts[0] + parts[1])) for part in parts]
    sums = [float(share.sum()) for share in shares]
    return [
        share * (abs(own) / (abs(sums[0]) + abs(sums[1])) * float(relevance.sum()) / own)
        for share, own in zip(shares, sums, strict=True)
    ]


def share_product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Half to each factor of a @ b, in proportion to the terms of each entry."""
    of_a, of_b = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            terms = [float(a[i, k] * b[k, j]) for k in range(a.shape[1])]
            for k, term in enumerate(terms):
                of_a[i, k] += term / sum(terms) * float(relevance[i, j]) / 2
                of_b[k, j] += term / sum(terms) * float(relevance[i, j]) / 2
    return of_a, of_b


def attention_relevances(net: Slow, tokens: Tensor, target: int) -> tuple[list[Tensor], Tensor]:
    """R_l of each block [H, T, T], and the relevance that reaches the tokens [T, D]."""
    found, seed = net.run(tokens), torch.zeros(len(net.state["heads.head.bias"]), dtype=tokens.dtype)
    seed[target] = 1
    relevance, result = torch.zeros_like(tokens), []
    read = net.norm(found.blocks[-1].output, "encoder.ln")[:1]
    relevance[:1] = share_linear(read, net.state["heads.head.weight"], seed[None])
    for number, b in reversed(list(enumerate(found.blocks, start=net.first))):
        weight: dict[str, Any] = {
            name: net.state[f"encoder.layers.encoder_layer_{number}.{name}weight"]
            for name in ("mlp.0.", "mlp.3.", "self_attention.in_proj_", "self_attention.out_proj.")
        }
        skipped, through = share_sum((b.middle, b.changed), relevance)
        through = share_linear(b.second, weight["mlp.0."], share_linear(b.hidden, weight["mlp.3."], through))
        skipped, through = share_sum((b.x, b.attended), skipped + through)
        through = share_linear(b.mixed, weight["self_attention.out_proj."], through)
        parts, own = [], []
        for h, of_head in enumerate(through.chunk(net.heads, dim=1)):
            of_attention, of_value = share_product(b.attention[h], b.value[h], of_head)
            of_query, of_key = share_product(b.query[h], b.key[h].T, of_attention)
            own.append(of_attention)
            parts.append((of_query, of_key.T, of_value))
        joint = torch.cat([part[kind] for kind in range(3) for part in parts], dim=1)
        relevance = skipped + share_linear(b.first, weight["self_attention.in_proj_"], joint)
        result.append(torch.stack(own))
    return result[::-1], relevance


def t_lrp(net: Slow, tokens: Tensor, target: int) -> Row:
    relevances, _ = attention_relevances(net, tokens, target)
    found = zip(relevances, gradients(net, tokens, target), strict=True)
    return product([residual(positive_mean(g * r)) for r, g in found])
