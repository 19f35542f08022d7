"""A ResNet for images of about 32 pixels, which trains in minutes on a CPU, with named depths."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from guidance.models.classifier import Classifier

RESNET8_STAGES = {
    "mid1": ("conv1", "bn1", "relu", "layer1"),
    "mid2": ("layer2",),
    "final": ("layer3",),
    "logits": ("avgpool", "flatten", "fc"),
}


def build_resnet8(num_classes: int) -> Classifier:
    """The ResNet for CIFAR-10 of He et al. 2016, Sec. 4.2, with n = 1 and fresh weights; mid1, mid2 and final are the outputs
    of its three blocks, at strides 1, 2 and 4.

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
    return Classifier(net, RESNET8_STAGES)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock  # takes two seconds, for which a table of nets should not wait

    if inputs == outputs:
        return BasicBlock(inputs, outputs)  # type: ignore[no-any-return]
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)  # type: ignore[no-any-return]
