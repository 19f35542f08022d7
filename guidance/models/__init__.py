"""The table of backbones, and how a classifier is built from it.

To add a backbone, write a function `num_classes -> Classifier` in a file of this folder and add a row to BACKBONES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn
from torchvision.ops import StochasticDepth

from guidance.models import weights as weight_files
from guidance.models.aim.nets import stage_depths, top_down_depths
from guidance.models.bcos.cnns import build_bcos_densenet121, build_bcos_resnet
from guidance.models.bcos.modules import set_logit_bias
from guidance.models.bcos.vit import build_bcos_simple_vit_s, build_bcos_vitc_s
from guidance.models.classifier import Classifier
from guidance.models.normalization import BATCHNORMS, convert_batchnorm
from guidance.models.torchvision_nets import build_convnext_tiny, build_resnet
from guidance.models.xdnn import build_xdnn_resnet
from guidance.types import lookup

__all__ = ["BACKBONES", "BATCHNORMS", "Backbone", "Classifier", "build_model"]

CNN_DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
TORCHVISION = "https://download.pytorch.org/models/"
BCOS = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights/"
XDNN = "https://download.visinf.tu-darmstadt.de/data/2021-neurips-fast-axiomatic-attribution/models/"


@dataclass(frozen=True)
class Backbone:
    """What must be known about a net before it is built."""

    build: Callable[[int], Classifier]  # number of classes -> Classifier with fresh weights
    head: str  # name of the classifier layer, replaced for another number of classes
    weights: Mapping[str, str]  # what `weights` may name -> address of the state dict
    depths: tuple[str, ...] = CNN_DEPTHS
    refuses: tuple[str, ...] = ("bcos",)  # attributions that it cannot give
    encoding: str = "normalized"  # of the input: "normalized" (3 channels) or "inverse" (x and 1 - x, 6 channels)
    stride: int = 32  # pixels of the input per cell at depth "final"
    channels: tuple[int, ...] = ()  # at the depths from mid1 on; with them, AIM can mask the stages of this net
    first_stage: int = 0  # what AIM calls the stage that ends at mid1

    @property
    def stages(self) -> dict[int, str]:
        """AIM's index of each stage -> the depth that is its output."""
        return stage_depths(self.depths, self.first_stage)

    def aim_depths(self, stop_stage: int) -> tuple[str, ...]:
        """The depths of AIM[stop_stage] around this net: those that decide its output alone."""
        return top_down_depths(self.depths, self.stages[stop_stage])


def _bcos(build: Callable[[int], Classifier], head: str, weights: Mapping[str, str], *, stride: int = 32) -> Backbone:
    addresses = {name: BCOS + file for name, file in weights.items()}
    return Backbone(build, head, addresses, refuses=(), encoding="inverse", stride=stride)


def _resnet(name: str, file: str, channels: tuple[int, ...]) -> Backbone:
    # AIM counts the stem of a ResNet as its stage 0.
    return Backbone(
        partial(build_resnet, name), "fc", {"imagenet": TORCHVISION + file}, channels=channels, first_stage=1
    )


# The published guidance experiments start from torchvision's V1 weights.
BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet("resnet18", "resnet18-f37072fd.pth", (64, 128, 256, 512)),
    "resnet50": _resnet("resnet50", "resnet50-0676ba61.pth", (256, 512, 1024, 2048)),
    "resnet101": _resnet("resnet101", "resnet101-63fe2227.pth", (256, 512, 1024, 2048)),
    "convnext_tiny": Backbone(
        build_convnext_tiny, "classifier.2", {"imagenet": TORCHVISION + "convnext_tiny-983f1562.pth"},
        channels=(96, 192, 384, 768),
    ),
    "xdnn_resnet18": Backbone(partial(build_xdnn_resnet, "xdnn_resnet18"), "fc", {}),
    "xdnn_resnet50": Backbone(
        partial(build_xdnn_resnet, "xdnn_resnet50"), "fc", {"xdnn": XDNN + "xfixup_resnet50_model_best.pth.tar"}
    ),
    "xdnn_resnet101": Backbone(partial(build_xdnn_resnet, "xdnn_resnet101"), "fc", {}),
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
        {"bcos-v2": "bcos_simple_vit_s_patch16_224-75e99d1f73.pth"}, stride=16,
    ),
    "bcos_vitc_s": _bcos(
        build_bcos_vitc_s, "linear_head.linear.linear", {"bcos-v2": "bcos_vitc_s_patch1_14-cf55c88f0c.pth"}, stride=16
    ),
}  # fmt: skip


def build_model(
    name: str,
    *,
    num_classes: int,
    weights: str | Path | None = None,
    batchnorm: str = "local",
    logit_bias: str = "published",
    drop_path: float | None = None,
    wrap: Callable[[Classifier], Classifier] | None = None,
) -> Classifier:
    """Build backbone `name` for `num_classes` classes.

    `weights`: None or "none" (fresh), a name in the backbone's table such as "imagenet" (downloaded once), or the path of a
    state dict or checkpoint; a classifier layer of another size stays fresh. `batchnorm`: local, sync or frozen.
    `logit_bias`, of B-cos nets: "published" (ln(0.001 / 0.999) for any number of classes) or "classes" (-ln(K - 1)).
    `drop_path`: largest probability with which a residual branch is dropped in training, growing linearly with its depth;
    None keeps the net's own. `wrap` builds the classifier around the backbone (AIM); weights of the bare backbone and of the
    whole are both accepted. Raises ValueError for an unknown name and for weights that are missing or do not fit.
    """
    backbone = lookup(BACKBONES, name, "backbone (model.name)")
    model = backbone.build(num_classes)
    if drop_path is not None:
        set_drop_path(model.net, drop_path)
    state, head = None, backbone.head
    if weights is not None and str(weights) != "none":
        url = backbone.weights.get(str(weights))
        state = weight_files.strip_prefixes(weight_files.fetch(url) if url else weight_files.read(Path(weights)))
    whole = state is not None and any(key.startswith("backbone.") for key in state)
    if state is not None and whole:  # of AIM; bottom-up, it has the backbone's own classifier
        if wrap is None:
            raise ValueError(
                f"{weights} holds a net of objective.mode: aim; set the mode, or give weights of {name} itself"
            )
        model = wrap(model)
        head = "heads" if any(key.startswith("heads.") for key in state) else f"backbone.{head}"
    if state is not None:
        weight_files.load_weights(model.net, state, head=head, source=str(weights))
    if wrap and not whole:
        model = wrap(model)
    convert_batchnorm(model.net, batchnorm)
    set_logit_bias(model.net, logit_bias, num_classes=num_classes)
    return model


def set_drop_path(net: nn.Module, probability: float) -> None:
    """Spread drop-path over the residual blocks of `net`: from 0 at the first to `probability` at the last, linearly.

    As torchvision does (Huang et al. 2016, Sec. 3). Raises ValueError for a net without such layers.
    """
    paths = [module for module in net.modules() if isinstance(module, StochasticDepth)]
    if not paths:
        raise ValueError("model.drop_path: this net has no stochastic depth; leave it null (convnext_tiny has it)")
    for i, path in enumerate(paths):
        path.p = probability * i / max(1, len(paths) - 1)
