"""torchvision's ResNet and ConvNeXt with named depths."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision.models import convnext_tiny, resnet18, resnet50, resnet101

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
RESNETS: dict[str, Callable[..., nn.Module]] = {"resnet18": resnet18, "resnet50": resnet50, "resnet101": resnet101}


def build_resnet(name: str, num_classes: int) -> Classifier:
    """ResNet `name` with fresh weights (He et al. 2016); mid1..3 and final are the outputs of layer1..4."""
    return Classifier(RESNETS[name](num_classes=num_classes), RESNET_STAGES)


def build_convnext_tiny(num_classes: int) -> Classifier:
    """ConvNeXt-T with fresh weights (Liu et al. 2022); mid1..3 and final are the outputs of its four stages."""
    return Classifier(convnext_tiny(num_classes=num_classes), CONVNEXT_STAGES)
