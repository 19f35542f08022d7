"""B-cos layers as explicit matrices, entry by entry, from the formulas of the papers; slow, float64, no autograd.

`matrices(layer, x)` gives, for each row of a batch, the matrix W(x) of the layer (its dynamic-linear map), so that
W(x) flatten(x) is the layer's output. Nets are products of matrices. Independent of `explain`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock, _DenseLayer, _Transition
from torchvision.models.resnet import BasicBlock, Bottleneck

from guidance.models.bcos.modules import BcosConv2d, BcosLinear, LogitBias
from guidance.models.bcos.norms import BatchNormUncentered2d, SampleNorm
from guidance.models.bcos.vit import (
    Attention,
    Encoder,
    FeedForward,
    MeanToken,
    PatchEmbedding,
    Position,
    TokensFirst,
    TokensLast,
)
from guidance.models.layers.normalization import FrozenBatchNorm2d


def net_matrices(layers: Sequence[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """The product of the layers' matrices [B, out, in], and the net's output [B, ...]."""
    product = torch.eye(x[0].numel(), dtype=x.dtype).repeat(len(x), 1, 1)
    with torch.no_grad():
        for layer in layers:
            product = matrices(layer, x) @ product
            x = layer(x)
    return product, x


def matrices(layer: Any, x: Tensor) -> Tensor:
    """[B, out, in] of one layer at x [B, ...]."""
    rules = {
        nn.Identity: _identity, LogitBias: _identity, Position: _identity, nn.Flatten: _identity,
        BcosConv2d: _bcos_conv, nn.Conv2d: _plain_conv, BcosLinear: _bcos_linear, nn.Linear: _plain_linear,
        BatchNormUncentered2d: _batch_norm, FrozenBatchNorm2d: _frozen_norm, SampleNorm: _sample_norm,
        nn.AvgPool2d: _average_pool,
        nn.AdaptiveAvgPool2d: _global_average, nn.ReLU: _relu, nn.MaxPool2d: _max_pool,
        nn.Sequential: lambda layer, x: net_matrices(list(layer), x)[0],
        _Transition: lambda layer, x: net_matrices(list(layer), x)[0], BasicBlock: _resnet_block, Bottleneck: _resnet_block,
        _DenseLayer: _dense_layer, _DenseBlock: lambda layer, x: _dense_block(layer, x),
        Attention: _attention, MeanToken: _mean_token, TokensFirst: _permutation, TokensLast: _permutation,
        FeedForward: lambda layer, x: net_matrices([layer.net], x)[0], Encoder: _encoder,
        PatchEmbedding: _patch_embedding,
    }  # fmt: skip
    with torch.no_grad():
        return rules[type(layer)](layer, x)


def _identity(layer: Any, x: Tensor) -> Tensor:
    return torch.eye(x[0].numel(), dtype=x.dtype).repeat(len(x), 1, 1)


def _by_basis(function: Any, x: Tensor) -> Tensor:
    """Matrix of a function that is truly linear, from its values at the unit vectors."""
    basis = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    return function(basis).flatten(1).T.repeat(len(x), 1, 1)


def _permutation(layer: Any, x: Tensor) -> Tensor:
    return _by_basis(layer, x)


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


def _plain_conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    entries, _, _ = _conv_entries(layer.weight, layer, x.shape[1:])
    return entries.flatten(3).flatten(0, 2).repeat(len(x), 1, 1)


def _bcos_conv(layer: BcosConv2d, x: Tensor) -> Tensor:
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


def _plain_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return _by_basis(lambda t: t @ layer.weight.T, x)


def _bcos_linear(layer: BcosLinear, x: Tensor) -> Tensor:
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


def _batch_norm(layer: BatchNormUncentered2d, x: Tensor) -> Tensor:
    scales = []
    for c in range(x.shape[1]):
        values = x[:, c].flatten()
        batch = float(((values - values.mean()) ** 2).mean())
        frozen = not layer.training or layer.statistics == "frozen"
        var = float(layer.running_var[c]) if frozen else batch
        scales.append(float(layer.weight[c]) / math.sqrt(var + layer.eps))
    diagonal = torch.tensor(scales, dtype=x.dtype).repeat_interleave(x[0, 0].numel())
    return torch.diag(diagonal).repeat(len(x), 1, 1)


def _frozen_norm(layer: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    return _by_basis(lambda t: layer(t) - layer(torch.zeros_like(t)), x)


def _sample_norm(layer: SampleNorm, x: Tensor) -> Tensor:
    std = (x.var(layer.dims, correction=0, keepdim=True) + layer.eps).sqrt()
    weight = layer.weight.view(-1, *[1] * (-1 - layer.channels))
    centre = _by_basis(lambda t: t - t.mean(layer.dims, keepdim=True) if layer.centered else t, x)
    return (weight / std).expand(x.shape).flatten(1)[:, :, None] * centre


def _average_pool(layer: nn.AvgPool2d, x: Tensor) -> Tensor:
    return _by_basis(layer, x)


def _global_average(layer: nn.AdaptiveAvgPool2d, x: Tensor) -> Tensor:
    return _by_basis(lambda t: t.mean((2, 3), keepdim=True), x)


def _relu(layer: nn.ReLU, x: Tensor) -> Tensor:
    return torch.diag_embed((x.flatten(1) > 0).to(x.dtype))


def _max_pool(layer: nn.MaxPool2d, x: Tensor) -> Tensor:
    _, index = nn.functional.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding, return_indices=True)
    plane = x.shape[2] * x.shape[3]
    offset = torch.arange(x.shape[1])[None, :, None, None] * plane
    return nn.functional.one_hot((index + offset).flatten(1), x[0].numel()).to(x.dtype)


def _resnet_block(layer: Any, x: Tensor) -> Tensor:
    names = ["conv1", "bn1", "relu", "conv2", "bn2"]
    names += ["relu", "conv3", "bn3"] if isinstance(layer, Bottleneck) else []
    main, y = net_matrices([getattr(layer, name) for name in names], x)
    shortcut = _identity(None, x) if layer.downsample is None else matrices(layer.downsample, x)
    identity = x if layer.downsample is None else layer.downsample(x)
    return matrices(layer.relu, y + identity) @ (main + shortcut)


def _dense_layer(layer: Any, x: Tensor) -> Tensor:
    branch, _ = net_matrices([layer.norm1, layer.relu1, layer.conv1, layer.norm2, layer.relu2, layer.conv2], x)
    return torch.cat((_identity(None, x), branch), dim=1)


def _dense_block(layer: Any, x: Tensor) -> Tensor:
    product = _identity(None, x)
    for part in layer.values():
        product = _dense_layer(part, x) @ product
        new = x
        for name in ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2"):
            new = getattr(part, name)(new)
        x = torch.cat((x, new), dim=1)
    return product


def _attention(layer: Attention, x: Tensor) -> Tensor:
    _, height, width, dim = x.shape
    tokens = layer.norm(x).flatten(1, 2)
    weights = layer.to_qkv.weight
    per_head = dim // layer.heads
    result = []
    for sample in tokens:
        blocks = torch.zeros(height * width, dim, height * width, dim, dtype=x.dtype)
        for head in range(layer.heads):
            part = slice(head * per_head, (head + 1) * per_head)
            query, key = (sample @ weights[i * dim : (i + 1) * dim][part].T for i in (0, 1))
            for i in range(height * width):
                scores = torch.tensor([float(query[i] @ key[j]) for j in range(len(key))]) / math.sqrt(per_head)
                for j, share in enumerate(scores.to(x.dtype).softmax(0)):
                    blocks[i, part, j] = share * weights[2 * dim :][part]
        result.append(blocks.view(height * width * dim, -1))
    values = torch.stack(result)
    mixed = (values @ layer.norm(x).flatten(1)[:, :, None]).view(x.shape)
    return matrices(layer.to_out, mixed) @ values @ matrices(layer.norm, x)


def _encoder(layer: Encoder, x: Tensor) -> Tensor:
    attend = _identity(None, x) + matrices(layer.attn, x)
    x = x + layer.attn(x)
    return (_identity(None, x) + matrices(layer.ff, x)) @ attend


def _mean_token(layer: MeanToken, x: Tensor) -> Tensor:
    return _by_basis(lambda t: t.mean((1, 2)), x)


def _patch_embedding(layer: PatchEmbedding, x: Tensor) -> Tensor:
    product = _identity(None, x)
    if hasattr(layer, "conv_stem"):
        product, x = net_matrices([layer.conv_stem], x)
    size = layer.patches.size

    def cut(t: Tensor) -> Tensor:
        rows = []
        for i, j in itertools.product(range(t.shape[2] // size), range(t.shape[3] // size)):
            patch = t[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size]
            rows.append(torch.stack([patch[:, c, a, b] for a in range(size) for b in range(size)
                                     for c in range(t.shape[1])], dim=1))  # fmt: skip
        return torch.stack(rows, dim=1)

    patches = cut(x).view(len(x), x.shape[2] // size, x.shape[3] // size, -1)
    return matrices(layer.linear, patches) @ _by_basis(cut, x) @ product
