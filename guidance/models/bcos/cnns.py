"""B-cos ResNets and DenseNet (Böhle et al. 2024): torchvision's nets with B-cos layers, and with named depths."""

from __future__ import annotations

from torch import nn

from guidance.models.bcos.convert import INPUT_CHANNELS, to_bcos
from guidance.models.bcos.fused import FUSED
from guidance.models.bcos.modules import LogitBias
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import torchvision_net
from guidance.models.pullback.rules import PAIRS

PAIRS.update(FUSED)  # the chains of these nets are made of them


def build_bcos_resnet(name: str, num_classes: int) -> Classifier:
    """B-cos ResNet `name` with fresh weights; mid1..3 and final are the outputs of layer1..4."""
    return bcos_resnet(torchvision_net(name.removeprefix("bcos_"), num_classes))


def bcos_resnet(net: nn.Module) -> Classifier:
    """The B-cos form of a torchvision ResNet, which is changed in place."""
    stages = {
        "mid1": ("conv1", "bn1", "maxpool", "layer1"),
        "mid2": ("layer2",),
        "mid3": ("layer3",),
        "final": ("layer4",),
        "logits": ("fc", "avgpool", nn.Flatten(), "logit_bias"),
    }
    net.logit_bias = LogitBias()
    return Classifier(to_bcos(net), stages, channels=INPUT_CHANNELS, layerwise=True, channels_last=True)


def build_bcos_densenet121(num_classes: int) -> Classifier:
    """B-cos DenseNet-121 with fresh weights; mid1..3 are the outputs of its first dense blocks, final that of its last norm."""
    return bcos_densenet(torchvision_net("densenet121", num_classes))


def bcos_densenet(net: nn.Module) -> Classifier:
    """The B-cos form of a torchvision DenseNet, which is changed in place."""
    stem = ("features.conv0", "features.norm0", "features.pool0")
    stages = {
        "mid1": (*stem, "features.denseblock1"),
        "mid2": ("features.transition1", "features.denseblock2"),
        "mid3": ("features.transition2", "features.denseblock3"),
        "final": ("features.transition3", "features.denseblock4", "features.norm5"),
        "logits": ("classifier", nn.AdaptiveAvgPool2d(1), nn.Flatten(), "logit_bias"),
    }
    net.logit_bias = LogitBias()
    return Classifier(to_bcos(net), stages, channels=INPUT_CHANNELS, layerwise=True, channels_last=True)
