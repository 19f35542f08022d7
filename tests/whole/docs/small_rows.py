"""Rows of small B-cos and X-DNN nets: the table has none that are smaller than a ResNet-18 of eleven million weights."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torchvision.models.resnet import BasicBlock

from guidance.models import BACKBONES
from guidance.models.bcos.cnns import bcos_resnet
from guidance.models.classifier import Classifier
from guidance.models.cnns.xdnn import xdnn_resnet
from tests.support.small_nets import TinyResNet

WIDTH = 8


def small_bcos(num_classes: int) -> Classifier:
    net = TinyResNet(BasicBlock, nn.BatchNorm2d, WIDTH)
    net.fc = nn.Linear(WIDTH, num_classes)
    return bcos_resnet(net)


def small_xdnn(num_classes: int) -> Classifier:
    net = TinyResNet(BasicBlock, nn.Identity, WIDTH)
    net.fc = nn.Linear(WIDTH, num_classes)
    return xdnn_resnet(net)  # type: ignore[arg-type]


BACKBONES["bcos_small"] = replace(BACKBONES["bcos_resnet18"], build=small_bcos, weights={})
BACKBONES["xdnn_small"] = replace(BACKBONES["xdnn_resnet18"], build=small_xdnn, weights={})
