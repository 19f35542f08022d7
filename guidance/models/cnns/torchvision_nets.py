"""torchvision's ResNets, ConvNeXts and DenseNet with named depths, and a small ResNet of its blocks."""

from __future__ import annotations

import re
from collections import OrderedDict
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
RESNET8_STAGES = {
    "mid1": ("conv1", "bn1", "relu", "layer1"),
    "mid2": ("layer2",),
    "final": ("layer3",),
    "logits": ("avgpool", "flatten", "fc"),
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
    return Classifier(torchvision_net(name, num_classes), RESNET_STAGES, layerwise_evaluation=True)


def build_resnet8(num_classes: int) -> Classifier:
    """The ResNet for CIFAR-10 of He et al. 2016, Sec. 4.2, with n = 1 and fresh weights: for images of about 32 pixels.

    mid1, mid2 and final are the outputs of its three blocks, at strides 1, 2 and 4.
    Departure: its shortcuts are convolutions where the shape changes (option B of the paper), as in the nets for ImageNet.
    """
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16), relu=nn.ReLU(),
        layer1=_block(16, 16, 1), layer2=_block(16, 32, 2), layer3=_block(32, 64, 2),
        avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(64, num_classes),
    )  # fmt: skip
    net = nn.Sequential(layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Classifier(net, RESNET8_STAGES, layerwise_evaluation=True)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock  # takes two seconds, for which a table of nets should not wait

    if inputs == outputs:
        return BasicBlock(inputs, outputs)  # type: ignore[no-any-return]
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)  # type: ignore[no-any-return]


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
    return Classifier(net, DENSENET_STAGES, layerwise_evaluation=True)


def densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a DenseNet under the names of its layers; the released files are older and say "norm.1" for "norm1"."""
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", key): x for key, x in state.items()}
