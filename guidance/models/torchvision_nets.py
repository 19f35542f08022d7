"""torchvision's ResNets, ConvNeXts and DenseNet with named depths."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

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


def torchvision_net(name: str, num_classes: int) -> nn.Module:
    """torchvision's net of that name, with fresh weights."""
    from torchvision.models import get_model  # takes two seconds, for which a table of nets should not wait

    net: nn.Module = get_model(name, num_classes=num_classes)
    return net


def build_resnet(name: str, num_classes: int) -> Classifier:
    """ResNet `name` with fresh weights (He et al. 2016; wide: Zagoruyko & Komodakis 2016); mid1..3 and final are the outputs of
    layer1..4."""
    return Classifier(torchvision_net(name, num_classes), RESNET_STAGES)


def build_convnext(name: str, num_classes: int) -> Classifier:
    """ConvNeXt `name` with fresh weights (Liu et al. 2022); mid1..3 and final are the outputs of its four stages."""
    return Classifier(torchvision_net(name, num_classes), CONVNEXT_STAGES)


def build_densenet121(num_classes: int) -> Classifier:
    """DenseNet-121 with fresh weights (Huang et al. 2017); mid1..3 are the outputs of its first dense blocks."""
    return densenet(torchvision_net("densenet121", num_classes))


def densenet(net: nn.Module) -> Classifier:
    """A torchvision DenseNet, whose last ReLU is made a layer.

    Depth "final" is behind the last norm and that ReLU: all channels that the classifier sees. (The last dense layer, which
    others name for GradCAM, holds its own 32 channels alone.)
    """
    net.relu = nn.ReLU()
    return Classifier(net, DENSENET_STAGES)


def densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a DenseNet under the names of its layers; the released files are older and say "norm.1" for "norm1"."""
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", key): x for key, x in state.items()}
