"""Small nets of every family, in the structure of the real ones, for tests of maps and of training through them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from guidance.models.bcos.cnns import bcos_densenet, bcos_resnet
from guidance.models.bcos.vit import BcosViT, PatchEmbedding, bcos_vit, conv_stem
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import RESNET_STAGES
from guidance.models.cnns.xdnn import xdnn_resnet
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.vit.net import ViT, vit

CLASSES = 4
DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
PUBLISHED_BIAS = math.log(0.001 / 0.999)  # of the logits of B-cos nets


class TinyResNet(nn.Module):
    """The parts of torchvision's ResNet under their names, one block a stage, a few channels wide."""

    def __init__(self, block: Any, norm: Callable[[int], nn.Module], width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for i, stride in enumerate((1, 2, 1, 2), start=1):
            outputs = width * block.expansion
            shortcut = nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), norm(outputs))
            first = block(
                channels, width, stride, shortcut if stride > 1 or channels != outputs else None, norm_layer=norm
            )
            setattr(self, f"layer{i}", nn.Sequential(first))
            channels = outputs
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, CLASSES)


def bcos_resnet_tiny(block: Any = Bottleneck) -> Classifier:
    return bcos_resnet(TinyResNet(block, nn.BatchNorm2d))


def xdnn_tiny(block: Any = BasicBlock) -> Classifier:
    model = xdnn_resnet(TinyResNet(block, nn.Identity))  # type: ignore[arg-type]
    for parameter in model.parameters():  # as initialised, all maps are zero
        nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return model


def bcos_densenet_tiny() -> Classifier:
    return bcos_densenet(DenseNet(4, (2, 1, 1, 1), 6, bn_size=2, num_classes=CLASSES))


def bcos_simple_vit_tiny() -> Classifier:
    embedding = PatchEmbedding(patch=4, dim=16)
    return bcos_vit(BcosViT(embedding=embedding, dim=16, depth=4, heads=2, hidden=24, num_classes=CLASSES))


def bcos_vitc_tiny() -> Classifier:
    embedding = PatchEmbedding(patch=1, dim=16, stem=conv_stem((8, 12, 12)), stem_channels=12)
    return bcos_vit(BcosViT(embedding=embedding, dim=16, depth=4, heads=2, hidden=24, num_classes=CLASSES))


def relu_resnet_tiny() -> Classifier:
    """A plain ReLU ResNet with frozen norms."""
    model = Classifier(TinyResNet(Bottleneck, nn.BatchNorm2d), RESNET_STAGES)
    convert_batchnorm(model.net, "frozen")
    return model


def vit_tiny(
    *, num_classes: int = CLASSES, patch: int = 4, image_size: int = 8, dtype: torch.dtype = torch.float64
) -> Classifier:
    """Six blocks of two heads on 2 x 2 patches; all weights are away from their initial ones, at which maps are zero."""
    net = ViT(patch=patch, dim=8, blocks=6, heads=2, hidden=12, num_classes=num_classes, image_size=image_size)
    model = vit(net).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


# name -> (build, side of the images)
BCOS: dict[str, tuple[Callable[[], Classifier], int]] = {
    "bcos_resnet": (bcos_resnet_tiny, 16),
    "bcos_basic_resnet": (lambda: bcos_resnet_tiny(BasicBlock), 16),
    "bcos_densenet": (bcos_densenet_tiny, 32),
    "bcos_simple_vit": (bcos_simple_vit_tiny, 12),
    "bcos_vitc": (bcos_vitc_tiny, 12),
}
RELU: dict[str, tuple[Callable[[], Classifier], int]] = {
    "xdnn": (xdnn_tiny, 16),
    "xdnn_bottleneck": (lambda: xdnn_tiny(Bottleneck), 16),
    "relu_resnet": (relu_resnet_tiny, 16),
}
NETS = BCOS | RELU


def build(name: str, *, batch: int = 3, seed: int = 0) -> tuple[Classifier, Tensor]:
    """Net `name` in float64 with statistics and norm weights away from their initial ones, and a batch of images."""
    torch.manual_seed(seed)
    make, side = NETS[name]
    model = make().double()
    for key, value in model.net.state_dict().items():
        if key.endswith("running_var") or (value.dim() == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1 and ((key.endswith("running_mean") and name in RELU) or key.endswith("bias")):
            value.normal_(std=0.1)
    images = torch.rand(batch, 3, side, side, dtype=torch.float64)
    return model, torch.cat((images, 1 - images), dim=1) if name in BCOS else images * 4 - 2
