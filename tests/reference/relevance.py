"""LRP of one layer, slowly: a layer is a black box that is probed for its matrix, and relevance is shared entry by entry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STABILIZER = 1e-6


def probe(layer: Callable[[Tensor], Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Matrix [O, I] and bias [O] of an affine layer whose input is [1, ...] of `shape`."""
    zero = torch.zeros(shape, dtype=torch.float64)
    with torch.no_grad():
        bias = layer(zero).flatten()
        columns = []
        for i in range(zero.numel()):
            unit = zero.clone()
            unit.view(-1)[i] = 1.0
            columns.append(layer(unit).flatten() - bias)
    return torch.stack(columns, 1), bias


def stabilized(value: float) -> float:
    return value + (STABILIZER if value >= 0 else -STABILIZER)


def handed_down(layer: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, rule: str) -> Tensor:
    """The relevance of the entries of `x` [1, ...], from that of the output of an affine layer."""
    matrix, bias = probe(layer, x.shape)
    inputs, given, result = x.flatten().tolist(), relevance.flatten().tolist(), [0.0] * x.numel()
    for o, r in enumerate(given):
        if rule == "flat":
            parts = [float(w != 0) for w in matrix[o].tolist()]
            shares = [(1.0, parts, 0.0)]
        else:
            parts = [w * v for w, v in zip(matrix[o].tolist(), inputs, strict=True)]
            plus, minus = [max(p, 0.0) for p in parts], [min(p, 0.0) for p in parts]
            b = float(bias[o])
            shares = {
                "epsilon": [(1.0, parts, b)],
                "plus": [(1.0, plus, max(b, 0.0))],
                "alpha2_beta1": [(2.0, plus, max(b, 0.0)), (-1.0, minus, min(b, 0.0))],
            }[rule]
        for factor, of, b in shares:
            total = stabilized(sum(of) + b)
            for i, part in enumerate(of):
                result[i] += factor * part / total * r
    return torch.tensor(result, dtype=torch.float64).view(x.shape)
