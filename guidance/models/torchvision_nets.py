"""torchvision's ResNets, ConvNeXts and DenseNet with named depths."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torchvision.models import (
    convnext_base,
    convnext_tiny,
    densenet121,
    resnet18,
    resnet50,
    resnet101,
    wide_resnet50_2,
)

from guidance.models.classifier import Classifier

RESNET_STAGES = {
    "mid1": ("conv1", "bn1", "relu", "maxpool", "layer1"),
    "mid2": ("layer2",),
    "mid3": ("layer3",),
    "final": ("layer4",),
    "logits": ("avgpool", nn.Flatten(), "fc"),
}
CONVNEXT_STAGES = {
    "mid1": ("features.0", "features.1"),
    "mid2": ("features.2", "features.3"),
    "mid3": ("features.4", "features.5"),
    "final": ("features.6", "features.7"),
    "logits": ("avgpool", "classifier"),
}
DENSENET_STAGES = {
    "mid1": ("features.conv0", "features.norm0", "features.relu0", "features.pool0", "features.denseblock1"),
    "mid2": ("features.transition1", "features.denseblock2"),
    "mid3": ("features.transition2", "features.denseblock3"),
    "final": ("features.transition3", "features.denseblock4", "features.norm5", "relu"),
    "logits": (nn.AdaptiveAvgPool2d(1), nn.Flatten(), "classifier"),
}
RESNETS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "wide_resnet50_2": wide_resnet50_2,
}
CONVNEXTS: dict[str, Callable[..., nn.Module]] = {"convnext_tiny": convnext_tiny, "convnext_base": convnext_base}


def build_resnet(name: str, num_classes: int) -> Classifier:
    """ResNet `name` with fresh weights (He et al. 2016; wide: Zagoruyko & Komodakis 2016); mid1..3 and final are the outputs of
    layer1..4."""
    return Classifier(RESNETS[name](num_classes=num_classes), RESNET_STAGES, layerwise_evaluation=True)


def build_convnext(name: str, num_classes: int) -> Classifier:
    """ConvNeXt `name` with fresh weights (Liu et al. 2022); mid1..3 and final are the outputs of its four stages."""
    return Classifier(CONVNEXTS[name](num_classes=num_classes), CONVNEXT_STAGES)


def build_densenet121(num_classes: int) -> Classifier:
    """DenseNet-121 with fresh weights (Huang et al. 2017); mid1..3 are the outputs of its first dense blocks."""
    return densenet(densenet121(num_classes=num_classes))


def densenet(net: nn.Module) -> Classifier:
    """A torchvision DenseNet, whose last ReLU is made a layer.

    Depth "final" is behind the last norm and that ReLU: all channels that the classifier sees. (The last dense layer, which
    others name for GradCAM, holds its own 32 channels alone.)
    """
    net.relu = nn.ReLU()
    return Classifier(net, DENSENET_STAGES, layerwise_evaluation=True)


def densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a DenseNet under the names of its layers; the released files are older and say "norm.1" for "norm1"."""
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", key): x for key, x in state.items()}
