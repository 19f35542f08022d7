"""From a plain CNN to its B-cos form: the same structure and names, every layer replaced by its B-cos counterpart."""

from __future__ import annotations

from torch import nn

from guidance.models.bcos.modules import BcosConv2d
from guidance.models.bcos.norms import BatchNormUncentered2d

INPUT_CHANNELS = 6  # (x, 1 - x)


def to_bcos(net: nn.Module) -> nn.Module:
    """Replace the layers of `net` in place; returns `net`. Biases and weights are not kept.

    Convolutions and linear layers become B-cos convolutions (a classifier 1x1, to be run before the pooling), batch norms
    uncentered ones, activations nothing, max-pooling average pooling; the first layer takes 6 channels instead of 3.
    """
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            setattr(module, name, _counterpart(child))
    return net


def _counterpart(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        channels = INPUT_CHANNELS if layer.in_channels == 3 else layer.in_channels
        assert isinstance(layer.padding, tuple)
        conv = BcosConv2d(
            channels, layer.out_channels, layer.kernel_size, stride=layer.stride, padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation, groups=layer.groups,  # type: ignore[arg-type]
        )  # fmt: skip
        return _initialized(conv)
    if isinstance(layer, nn.Linear):
        return _initialized(BcosConv2d(layer.in_features, layer.out_features))
    if isinstance(layer, nn.BatchNorm2d):
        return BatchNormUncentered2d(layer.num_features)
    if isinstance(layer, nn.ReLU):
        return nn.Identity()
    if isinstance(layer, nn.MaxPool2d):
        return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
    return layer


def _initialized(conv: BcosConv2d) -> BcosConv2d:
    # Only the direction of a filter counts for its output, but its length divides the gradient, as a learning rate would.
    nn.init.kaiming_normal_(conv.linear.weight, mode="fan_out", nonlinearity="relu")
    return conv
