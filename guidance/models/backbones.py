"""The table of backbones. (`guidance.models.sources` finds those of libraries, and of one's own modules.)

To add a backbone, write a function `num_classes -> Classifier` in a file of this folder and add a row to BACKBONES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from guidance.models import weights as weight_files
from guidance.models.aim.stages import stage_depths, top_down_depths
from guidance.models.bcos.cnns import build_bcos_densenet121, build_bcos_resnet
from guidance.models.bcos.vit import build_bcos_simple_vit_s, build_bcos_vitc_s
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import (
    build_convnext,
    build_densenet121,
    build_resnet,
    build_resnet8,
    densenet_names,
)
from guidance.models.cnns.xdnn import build_xdnn_resnet
from guidance.models.vit.sizes import SIZES, build_vit
from guidance.models.vit.state_dicts import vit_state

CNN_DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
TORCHVISION = "https://download.pytorch.org/models/"
BCOS = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights/"
XDNN = "https://download.visinf.tu-darmstadt.de/data/2021-neurips-fast-axiomatic-attribution/models/"


@dataclass(frozen=True)
class InputFormat:
    """What the images looked like that weights were trained with; the settings of a config that say so have these names."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str  # "bilinear" or "bicubic"
    crop_pct: float  # side of the square in the middle, as a share of the short side
    crop: str = "center"  # of evaluated images; "none": they were stretched to a square


def _download(address: str) -> dict[str, Tensor]:
    return weight_files.fetch(address)


@dataclass(frozen=True)
class Backbone:
    """What must be known about a net before it is built."""

    build: Callable[[int], Classifier]  # number of classes -> Classifier with fresh weights
    head: str  # name of the classifier layer, replaced for another number of classes
    weights: Mapping[str, str]  # what `weights` may name -> address of the state dict
    depths: tuple[str, ...] = CNN_DEPTHS
    traits: tuple[str, ...] = ()  # what attributions may need of it (guidance.attribution.request.TRAITS)
    centred: tuple[str, ...] = ()  # depths where a LayerNorm makes the sum over channels of any gradient zero
    encoding: str = "normalized"  # of the input: "normalized" (3 channels) or "inverse" (x and 1 - x, 6 channels)
    stride: int = 32  # pixels of the input per cell at depth "final"
    channels: tuple[int, ...] = ()  # at the depths from mid1 on; with them, AIM can mask the stages of this net
    first_stage: int = 0  # what AIM calls the stage that ends at mid1
    patch: int = 1  # pixels: a side of the images must be a multiple of it
    # names in files of weights -> those of the layers, where released files have older ones
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    fetch: Callable[[str], dict[str, Tensor]] = _download  # address of weights -> state dict
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of weights -> those in `weights`
    # name in `weights` -> what they were trained with, where that is known; else it is as the defaults of a config say
    formats: Mapping[str, InputFormat] = field(default_factory=dict)
    tried: Callable[[int], str] = lambda size: ""  # side of the images -> what goes wrong when the net is run on them

    @property
    def stages(self) -> dict[int, str]:
        """AIM's index of each stage -> the depth that is its output."""
        return stage_depths(self.depths, self.first_stage)

    def aim_depths(self, stop_stage: int) -> tuple[str, ...]:
        """The depths of AIM[stop_stage] around this net: those that decide its output alone."""
        return top_down_depths(self.depths, self.stages[stop_stage])

    def refuses_size(self, size: int, name: str) -> str:
        """Why the net, called `name`, cannot take square images of `size` pixels; empty where it can."""
        if size < self.stride:
            return f"{size} is smaller than one cell of {name} ({self.stride})"
        if size % self.patch:
            return f"{name} cuts images into patches of {self.patch} pixels; set a multiple of it, not {size}"
        problem = self.tried(size)
        return f"{name} cannot be run on images of {size} pixels ({problem})" if problem else ""


def _bcos(
    build: Callable[[int], Classifier], head: str, weights: Mapping[str, str], *, stride: int = 32, patch: int = 1
) -> Backbone:
    addresses = {name: BCOS + file for name, file in weights.items()}
    return Backbone(build, head, addresses, traits=("dynamic",), encoding="inverse", stride=stride, patch=patch)


def _resnet(name: str, file: str, channels: tuple[int, ...]) -> Backbone:
    # AIM counts the stem of a ResNet as its stage 0.
    return Backbone(
        partial(build_resnet, name), "fc", {"imagenet": TORCHVISION + file}, traits=("relevance",), channels=channels,
        first_stage=1,
    )  # fmt: skip


def _convnext(name: str, file: str, channels: tuple[int, ...]) -> Backbone:
    build = partial(build_convnext, name)
    return Backbone(build, "classifier.2", {"imagenet": TORCHVISION + file}, channels=channels, centred=CNN_DEPTHS[1:])


def _xdnn(name: str, weights: Mapping[str, str]) -> Backbone:
    return Backbone(partial(build_xdnn_resnet, name), "fc", weights, traits=("relevance",))


def _vit(name: str, weights: Mapping[str, str]) -> Backbone:
    addresses = {key: TORCHVISION + file for key, file in weights.items()}
    patch = SIZES[name].patch
    return Backbone(
        partial(build_vit, name), "heads.head", addresses, traits=("attention",), centred=CNN_DEPTHS[1:-1],
        stride=patch, patch=patch, renamed=partial(vit_state, patch=patch),
    )  # fmt: skip


# The published code of model guidance starts from torchvision's V1 weights.
BACKBONES: dict[str, Backbone] = {
    "resnet8": Backbone(
        build_resnet8, "fc", {}, depths=("input", "mid1", "mid2", "final"), traits=("relevance",), stride=4,
        channels=(16, 32, 64), first_stage=1,
    ),
    "resnet18": _resnet("resnet18", "resnet18-f37072fd.pth", (64, 128, 256, 512)),
    "resnet50": _resnet("resnet50", "resnet50-0676ba61.pth", (256, 512, 1024, 2048)),
    "resnet101": _resnet("resnet101", "resnet101-63fe2227.pth", (256, 512, 1024, 2048)),
    "wide_resnet50_2": _resnet("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth", (256, 512, 1024, 2048)),
    "densenet121": Backbone(
        build_densenet121, "classifier", {"imagenet": TORCHVISION + "densenet121-a639ec97.pth"}, traits=("relevance",),
        renamed=densenet_names,
    ),
    "convnext_tiny": _convnext("convnext_tiny", "convnext_tiny-983f1562.pth", (96, 192, 384, 768)),
    "convnext_base": _convnext("convnext_base", "convnext_base-6075fbad.pth", (128, 256, 512, 1024)),
    "xdnn_resnet18": _xdnn("xdnn_resnet18", {}),
    "xdnn_resnet50": _xdnn("xdnn_resnet50", {"xdnn": XDNN + "xfixup_resnet50_model_best.pth.tar"}),
    "xdnn_resnet101": _xdnn("xdnn_resnet101", {}),
    "bcos_resnet18": _bcos(partial(build_bcos_resnet, "bcos_resnet18"), "fc.linear", {"bcos-v2": "resnet_18-68b4160fff.pth"}),
    "bcos_resnet34": _bcos(partial(build_bcos_resnet, "bcos_resnet34"), "fc.linear", {"bcos-v2": "resnet_34-a63425a03e.pth"}),
    "bcos_resnet50": _bcos(
        partial(build_bcos_resnet, "bcos_resnet50"), "fc.linear",
        {"bcos-v2": "resnet_50-ead259efe4.pth", "bcos-v2-long": "resnet_50_long-ef38a88533.pth"},
    ),
    "bcos_resnet101": _bcos(
        partial(build_bcos_resnet, "bcos_resnet101"), "fc.linear", {"bcos-v2": "resnet_101-84c3658278.pth"}
    ),
    "bcos_densenet121": _bcos(
        build_bcos_densenet121, "classifier.linear",
        {"bcos-v2": "densenet_121-b8daf96afb.pth", "bcos-v2-long": "densenet_121_long-5175461597.pth"},
    ),
    "bcos_simple_vit_s": _bcos(
        build_bcos_simple_vit_s, "linear_head.linear.linear",
        {"bcos-v2": "bcos_simple_vit_s_patch16_224-75e99d1f73.pth"}, stride=16, patch=16,
    ),
    "bcos_vitc_s": _bcos(
        build_bcos_vitc_s, "linear_head.linear.linear", {"bcos-v2": "bcos_vitc_s_patch1_14-cf55c88f0c.pth"}, stride=16
    ),
    "vit_s_16": _vit("vit_s_16", {}),
    "vit_b_8": _vit("vit_b_8", {}),
    "vit_b_16": _vit("vit_b_16", {"imagenet": "vit_b_16-c867db91.pth"}),
    "vit_b_32": _vit("vit_b_32", {"imagenet": "vit_b_32-d86f8d99.pth"}),
}  # fmt: skip
