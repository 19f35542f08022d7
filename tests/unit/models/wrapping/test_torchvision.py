"""Nets of torchvision of different kinds, small or made small, with the depths that are suggested for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from tests.unit.models.wrapping.steps import check_gradients, check_maps, wrapped

CLASSES = 3
named = partial(partial, torchvision.models.get_model, num_classes=CLASSES)


def small_vgg() -> nn.Module:
    net = torchvision.models.VGG(torchvision.models.vgg.make_layers([8, "M", 8, "M", 8, "M"], batch_norm=True), CLASSES)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(2), nn.Sequential(nn.Linear(32, CLASSES), nn.Dropout())
    return net


def expansion(ratio: int, inputs: int, outputs: int, layers: int) -> MBConvConfig:
    return MBConvConfig(ratio, 3, layers, inputs, outputs, layers, 1.0, 1.0)


def small_regnet() -> nn.Module:
    params = BlockParams(
        depths=[1, 2],
        widths=[8, 16],
        group_widths=[8, 8],
        bottleneck_multipliers=[1.0, 1.0],
        strides=[2, 2],
        se_ratio=0.25,
    )
    return torchvision.models.RegNet(params, CLASSES, stem_width=8)


def small_vit() -> nn.Module:
    net = torchvision.models.VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=CLASSES)
    nn.init.normal_(net.heads.head.weight)
    return net


NETS: dict[str, tuple[Callable[[], nn.Module], int, tuple[str, ...]]] = {
    "vgg": (small_vgg, 32, ("mid1", "mid2", "mid3", "mid4", "final")),
    "resnet18": (named("resnet18"), 32, ("mid1", "mid2", "mid3", "final")),
    "squeezenet1_1": (named("squeezenet1_1"), 48, ("mid1", "mid2", "mid3", "final")),
    "mobilenet_v3_small": (named("mobilenet_v3_small"), 64, ("mid1", "mid2", "mid3", "mid4", "final")),
    "efficientnet": (
        lambda: torchvision.models.EfficientNet([expansion(1, 8, 8, 1), expansion(6, 8, 16, 2)], 0.2, num_classes=CLASSES),
        32,
        ("mid1", "final"),
    ),
    "regnet": (small_regnet, 32, ("mid1", "mid2", "final")),
    "shufflenet_v2_x0_5": (named("shufflenet_v2_x0_5"), 64, ("mid1", "mid2", "mid3", "mid4", "final")),
    "mnasnet0_5": (named("mnasnet0_5"), 64, ("mid1", "mid2", "mid3", "mid4", "final")),
    "densenet": (
        lambda: torchvision.models.DenseNet(4, (2, 2), 8, num_classes=CLASSES), 32, ("mid1", "mid2", "final")
    ),
    "googlenet": (named("googlenet", init_weights=False), 64, ("mid1", "mid2", "mid3", "mid4", "final")),
    "convnext": (
        lambda: torchvision.models.ConvNeXt(
            [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], layer_scale=0.5, num_classes=CLASSES
        ),
        32,
        ("mid1", "final"),
    ),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=CLASSES),
        32,
        ("mid1", "final"),
    ),
    # Its second stage has three cells a side, which are padded to four.
    "swin_v2": (
        lambda: torchvision.models.SwinTransformer(
            [4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=CLASSES, block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        ),
        24,
        ("mid1", "final"),
    ),
    "vit": (small_vit, 32, ("mid1", "mid2", "mid3", "final")),
    "maxvit": (
        lambda: torchvision.models.MaxVit((32, 32), 8, 2, [8, 8], [1, 1], 4, 0.0, num_classes=CLASSES),
        32,
        ("mid1", "mid2", "final"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_it_is_explained_and_guided(name: str) -> None:
    torch.manual_seed(0)
    build, size, depths = NETS[name]
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    model = wrapped(build().double(), images)
    assert model.depths == ("input", *depths)
    check_maps(model, images)
    check_gradients(model, images, "input")
