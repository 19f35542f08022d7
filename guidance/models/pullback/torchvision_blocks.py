"""The pullbacks of torchvision's blocks: outputs and pullbacks side by side.

Apart from those of torch's layers, because importing torchvision takes two seconds; `guidance.models.classifier` does it for
nets that hold such a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock, _DenseLayer
from torchvision.models.resnet import BasicBlock, Bottleneck

from guidance.models.pullback.rules import Explained, chain, compose, concatenate, explain, residual


def basic_block(layer: BasicBlock, x: Tensor) -> Explained:
    main = (layer.conv1, layer.bn1, layer.relu, layer.conv2, layer.bn2)
    return _resnet_block(layer, main, x)


def bottleneck(layer: Bottleneck, x: Tensor) -> Explained:
    main = (layer.conv1, layer.bn1, layer.relu, layer.conv2, layer.bn2, layer.relu, layer.conv3, layer.bn3)
    return _resnet_block(layer, main, x)


def _resnet_block(layer: BasicBlock | Bottleneck, main: tuple[nn.Module, ...], x: Tensor) -> Explained:
    y, through_sum = residual(x, main, () if layer.downsample is None else (layer.downsample,))
    y, through_relu = explain(layer.relu, y)
    return y, compose(through_sum, through_relu)


def dense_layer(layer: _DenseLayer, x: Tensor) -> Explained:
    if layer.drop_rate:
        return torch.cat((x, layer(x)), dim=1), None
    return concatenate(x, (layer.norm1, layer.relu1, layer.conv1, layer.norm2, layer.relu2, layer.conv2))


def dense_block(layer: _DenseBlock, x: Tensor) -> Explained:
    return chain(x, tuple(layer.values()))


# Kind of block -> its output and pullback.
RULES: Mapping[type, Callable[[Any, Tensor], Explained]] = {
    BasicBlock: basic_block,
    Bottleneck: bottleneck,
    _DenseLayer: dense_layer,
    _DenseBlock: dense_block,
}
