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
from tests.reference import layers as single


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
        nn.Identity: single.identity, LogitBias: single.identity, Position: single.identity, nn.Flatten: single.identity,
        BcosConv2d: single.bcos_conv, nn.Conv2d: single.plain_conv,
        BcosLinear: single.bcos_linear, nn.Linear: single.plain_linear,
        BatchNormUncentered2d: single.batch_norm, FrozenBatchNorm2d: single.frozen_norm, SampleNorm: single.sample_norm,
        nn.AvgPool2d: single.average_pool,
        nn.AdaptiveAvgPool2d: single.global_average, nn.ReLU: single.relu, nn.MaxPool2d: single.max_pool,
        nn.Sequential: lambda layer, x: net_matrices(list(layer), x)[0],
        _Transition: lambda layer, x: net_matrices(list(layer), x)[0], BasicBlock: _resnet_block, Bottleneck: _resnet_block,
        _DenseLayer: _dense_layer, _DenseBlock: lambda layer, x: _dense_block(layer, x),
        Attention: _attention, MeanToken: _mean_token, TokensFirst: single.permutation, TokensLast: single.permutation,
        FeedForward: lambda layer, x: net_matrices([layer.net], x)[0], Encoder: _encoder,
        PatchEmbedding: _patch_embedding,
    }  # fmt: skip
    with torch.no_grad():
        return rules[type(layer)](layer, x)


def _resnet_block(layer: Any, x: Tensor) -> Tensor:
    names = ["conv1", "bn1", "relu", "conv2", "bn2"]
    names += ["relu", "conv3", "bn3"] if isinstance(layer, Bottleneck) else []
    main, y = net_matrices([getattr(layer, name) for name in names], x)
    shortcut = single.identity(None, x) if layer.downsample is None else matrices(layer.downsample, x)
    identity = x if layer.downsample is None else layer.downsample(x)
    return matrices(layer.relu, y + identity) @ (main + shortcut)


def _dense_layer(layer: Any, x: Tensor) -> Tensor:
    branch, _ = net_matrices([layer.norm1, layer.relu1, layer.conv1, layer.norm2, layer.relu2, layer.conv2], x)
    return torch.cat((single.identity(None, x), branch), dim=1)


def _dense_block(layer: Any, x: Tensor) -> Tensor:
    product = single.identity(None, x)
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
    attend = single.identity(None, x) + matrices(layer.attn, x)
    x = x + layer.attn(x)
    return (single.identity(None, x) + matrices(layer.ff, x)) @ attend


def _mean_token(layer: MeanToken, x: Tensor) -> Tensor:
    return single.by_basis(lambda t: t.mean((1, 2)), x)


def _patch_embedding(layer: PatchEmbedding, x: Tensor) -> Tensor:
    product = single.identity(None, x)
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
    return matrices(layer.linear, patches) @ single.by_basis(cut, x) @ product
