"""The table of backbones, and how a classifier is built from it.

To add a backbone, write a function `num_classes -> Classifier` in a file of this folder and add a row to BACKBONES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from guidance.models import weights as weight_files
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


def _bcos(build: Callable[[int], Classifier], head: str, weights: Mapping[str, str], *, stride: int = 32) -> Backbone:
    addresses = {name: BCOS + file for name, file in weights.items()}
    return Backbone(build, head, addresses, refuses=(), encoding="inverse", stride=stride)


# The published guidance experiments start from torchvision's V1 weights.
BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(partial(build_resnet, "resnet18"), "fc", {"imagenet": TORCHVISION + "resnet18-f37072fd.pth"}),
    "resnet50": Backbone(partial(build_resnet, "resnet50"), "fc", {"imagenet": TORCHVISION + "resnet50-0676ba61.pth"}),
    "resnet101": Backbone(partial(build_resnet, "resnet101"), "fc", {"imagenet": TORCHVISION + "resnet101-63fe2227.pth"}),
    "convnext_tiny": Backbone(
        build_convnext_tiny, "classifier.2", {"imagenet": TORCHVISION + "convnext_tiny-983f1562.pth"}
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
) -> Classifier:
    """Build backbone `name` for `num_classes` classes.

    `weights`: None or "none" (fresh), a name in the backbone's table such as "imagenet" (downloaded once), or the path of a
    state dict or checkpoint; a classifier layer of another size stays fresh. `batchnorm`: local, sync or frozen.
    `logit_bias`, of B-cos nets: "published" (ln(0.001 / 0.999) for any number of classes) or "classes" (-ln(K - 1)).
    Raises ValueError for an unknown name and for weights that are missing or do not fit.
    """
    backbone = lookup(BACKBONES, name, "backbone (model.name)")
    model = backbone.build(num_classes)
    if weights is not None and str(weights) != "none":
        url = backbone.weights.get(str(weights))
        state = weight_files.fetch(url) if url else weight_files.read(Path(weights))
        weight_files.load_weights(model.net, state, head=backbone.head, source=str(weights))
    convert_batchnorm(model.net, batchnorm)
    set_logit_bias(model.net, logit_bias, num_classes=num_classes)
    return model
