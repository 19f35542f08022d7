"""X-DNN ResNets: no additive biases and no norms, hence f(a x) = a f(x) for a > 0 (Hesse et al. 2021).

Input times gradient is then integrated gradients from a zero baseline, exactly. The residual blocks follow Fixup (Zhang et
al. 2019), without its biases and scales.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from torch import nn

from guidance.models.classifier import Classifier

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


def build_xdnn_resnet(name: str, num_classes: int) -> Classifier:
    """X-DNN ResNet `name` with fresh weights; mid1..3 and final are the outputs of layer1..4.

    As initialised, the last convolution of each block and the classifier are zero, and so are logits and attributions.
    """
    from torchvision.models import get_model

    return xdnn_resnet(get_model(name.removeprefix("xdnn_"), num_classes=num_classes, norm_layer=nn.Identity))


def xdnn_resnet(net: ResNet) -> Classifier:
    """The X-DNN form of a torchvision ResNet with norm_layer=nn.Identity, which is changed in place."""
    net.fc = nn.Linear(net.fc.in_features, net.fc.out_features, bias=False)
    blocks = list(chain(net.layer1, net.layer2, net.layer3, net.layer4))
    for block in blocks:
        if block.downsample is not None:
            block.downsample = block.downsample[0]  # the published name of its weight is "downsample.weight"
    _fixup(net, blocks)
    stages = {
        "mid1": ("conv1", "relu", "maxpool", "layer1"),
        "mid2": ("layer2",),
        "mid3": ("layer3",),
        "final": ("layer4",),
        "logits": ("avgpool", nn.Flatten(), "fc"),
    }
    return Classifier(net, stages, channels=3, homogeneous=True, layerwise=True, channels_last=True)


def _fixup(net: ResNet, blocks: list[BasicBlock | Bottleneck]) -> None:
    """Fixup initialisation: each of the L blocks starts as its shortcut, and its inner convolutions are scaled down by L."""
    from torchvision.models.resnet import Bottleneck

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for block in blocks:
        inner = [block.conv1, block.conv2] if isinstance(block, Bottleneck) else [block.conv1]
        for conv in inner:
            conv.weight.data.mul_(len(blocks) ** (-1 / (2 * len(inner))))
        nn.init.zeros_((block.conv3 if isinstance(block, Bottleneck) else block.conv2).weight)
    nn.init.zeros_(net.fc.weight)
