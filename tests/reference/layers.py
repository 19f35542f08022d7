"""Single layers as explicit matrices, entry by entry, from the formulas of the papers; slow, float64, no autograd.

Each function takes a layer and its input [B, ...] and returns [B, out, in].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guidance.models.bcos.modules import BcosConv2d, BcosLinear
from guidance.models.bcos.norms import BatchNormUncentered2d, SampleNorm
from guidance.models.layers.normalization import FrozenBatchNorm2d


def identity(layer: Any, x: Tensor) -> Tensor:
    return torch.eye(x[0].numel(), dtype=x.dtype).repeat(len(x), 1, 1)


def by_basis(function: Any, x: Tensor) -> Tensor:
    """Matrix of a function that is truly linear, from its values at the unit vectors."""
    basis = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    return function(basis).flatten(1).T.repeat(len(x), 1, 1)


def permutation(layer: Any, x: Tensor) -> Tensor:
    return by_basis(layer, x)


def _conv_entries(weight: Tensor, conv: nn.Conv2d, shape: Sequence[int]) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Matrix [O, h, w, C, H, W] of a convolution, and 1 where an input is in the patch (and group) of an output."""
    channels, height, width = shape
    outputs, per_group, kh, kw = weight.shape
    (sy, sx), (py, px), (dy, dx) = conv.stride, conv.padding, conv.dilation
    h = (height + 2 * py - dy * (kh - 1) - 1) // sy + 1
    w = (width + 2 * px - dx * (kw - 1) - 1) // sx + 1
    entries = weight.new_zeros(outputs, h, w, channels, height, width)
    inside = torch.zeros_like(entries)
    for i, j, a, b in itertools.product(range(h), range(w), range(kh), range(kw)):
        row, column = i * sy - py + a * dy, j * sx - px + b * dx
        if not (0 <= row < height and 0 <= column < width):
            continue
        for o in range(outputs):
            first = o // (outputs // conv.groups) * per_group
            entries[o, i, j, first : first + per_group, row, column] = weight[o, :, a, b]
            inside[o, i, j, first : first + per_group, row, column] = 1
    return entries, inside, (h, w)


def plain_conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    entries, _, _ = _conv_entries(layer.weight, layer, x.shape[1:])
    return entries.flatten(3).flatten(0, 2).repeat(len(x), 1, 1)


def bcos_conv(layer: BcosConv2d, x: Tensor) -> Tensor:
    weight = layer.linear.weight.clone()
    for o in range(len(weight)):
        weight[o] /= math.sqrt(float((weight[o] ** 2).sum()))
    entries, inside, _ = _conv_entries(weight, layer.linear, x.shape[1:])
    filters, h, w = entries.shape[:3]
    result = []
    for sample in x:
        rows = []
        for o, i, j in itertools.product(range(filters // layer.max_out), range(h), range(w)):
            candidates = range(o * layer.max_out, (o + 1) * layer.max_out)
            best = max(candidates, key=lambda f: float((entries[f, i, j] * sample).sum()))
            z = float((entries[best, i, j] * sample).sum())
            norm = math.sqrt(float((inside[best, i, j] * sample**2).sum()) + 1e-6)
            rows.append(entries[best, i, j].flatten() * _cosine_power(z / norm, layer.b))
        result.append(torch.stack(rows))
    return torch.stack(result)


def _cosine_power(cosine: float, b: float) -> float:
    if b == 1:
        return 1.0
    return abs(cosine) if b == 2 else (abs(cosine) + 1e-6) ** (b - 1)


def plain_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return by_basis(lambda t: t @ layer.weight.T, x)


def bcos_linear(layer: BcosLinear, x: Tensor) -> Tensor:
    weight = layer.linear.weight / (layer.linear.weight**2).sum(1, keepdim=True).sqrt()
    result = []
    for sample in x.flatten(1, -2) if x.dim() > 2 else x[:, None]:
        blocks = []
        for token in sample:
            norm = math.sqrt(float((token**2).sum())) + 1e-12
            rows = []
            for o in range(len(weight) // layer.max_out):
                group = weight[o * layer.max_out : (o + 1) * layer.max_out]
                best = group[int((group @ token).argmax())]
                rows.append(best * _cosine_power(float(best @ token) / norm, layer.b))
            blocks.append(torch.stack(rows))
        result.append(torch.block_diag(*blocks))
    return torch.stack(result)


def batch_norm(layer: BatchNormUncentered2d, x: Tensor) -> Tensor:
    scales = []
    for c in range(x.shape[1]):
        values = x[:, c].flatten()
        batch = float(((values - values.mean()) ** 2).mean())
        frozen = not layer.training or layer.statistics == "frozen"
        var = float(layer.running_var[c]) if frozen else batch
        scales.append(float(layer.weight[c]) / math.sqrt(var + layer.eps))
    diagonal = torch.tensor(scales, dtype=x.dtype).repeat_interleave(x[0, 0].numel())
    return torch.diag(diagonal).repeat(len(x), 1, 1)


def frozen_norm(layer: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    return by_basis(lambda t: layer(t) - layer(torch.zeros_like(t)), x)


def sample_norm(layer: SampleNorm, x: Tensor) -> Tensor:
    std = (x.var(layer.dims, correction=0, keepdim=True) + layer.eps).sqrt()
    weight = layer.weight.view(-1, *[1] * (-1 - layer.channels))
    centre = by_basis(lambda t: t - t.mean(layer.dims, keepdim=True) if layer.centered else t, x)
    return (weight / std).expand(x.shape).flatten(1)[:, :, None] * centre


def average_pool(layer: nn.AvgPool2d, x: Tensor) -> Tensor:
    return by_basis(layer, x)


def global_average(layer: nn.AdaptiveAvgPool2d, x: Tensor) -> Tensor:
    return by_basis(lambda t: t.mean((2, 3), keepdim=True), x)


def relu(layer: nn.ReLU, x: Tensor) -> Tensor:
    return torch.diag_embed((x.flatten(1) > 0).to(x.dtype))


def max_pool(layer: nn.MaxPool2d, x: Tensor) -> Tensor:
    _, index = nn.functional.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding, return_indices=True)
    plane = x.shape[2] * x.shape[3]
    offset = torch.arange(x.shape[1])[None, :, None, None] * plane
    return nn.functional.one_hot((index + offset).flatten(1), x[0].numel()).to(x.dtype)
