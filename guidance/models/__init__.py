"""The table of backbones, and how a classifier is built from it.

To add a backbone, write a function `num_classes -> Classifier` in a file of this folder and add a row to BACKBONES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from guidance.models import weights as weight_files
from guidance.models.classifier import Classifier
from guidance.models.normalization import BATCHNORMS, convert_batchnorm
from guidance.models.torchvision_nets import build_convnext_tiny, build_resnet
from guidance.types import lookup

__all__ = ["BACKBONES", "BATCHNORMS", "Backbone", "Classifier", "build_model"]

CNN_DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Backbone:
    """What must be known about a net before it is built."""

    build: Callable[[int], Classifier]  # number of classes -> Classifier with fresh weights
    head: str  # name of the classifier layer, replaced for another number of classes
    weights: Mapping[str, str]  # what `weights` may name -> address of the state dict
    depths: tuple[str, ...] = CNN_DEPTHS
    attributions: tuple[str, ...] | None = None  # that it can give; None: all of ATTRIBUTIONS
    encoding: str = "normalized"  # of the input: "normalized" (3 channels) or "inverse" (x and 1 - x, 6 channels)
    stride: int = 32  # pixels of the input per cell at depth "final"


# The published guidance experiments start from torchvision's V1 weights.
BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(partial(build_resnet, "resnet18"), "fc", {"imagenet": TORCHVISION + "resnet18-f37072fd.pth"}),
    "resnet50": Backbone(partial(build_resnet, "resnet50"), "fc", {"imagenet": TORCHVISION + "resnet50-0676ba61.pth"}),
    "resnet101": Backbone(
        partial(build_resnet, "resnet101"), "fc", {"imagenet": TORCHVISION + "resnet101-63fe2227.pth"}
    ),
    "convnext_tiny": Backbone(
        build_convnext_tiny, "classifier.2", {"imagenet": TORCHVISION + "convnext_tiny-983f1562.pth"}
    ),
}


def build_model(
    name: str, *, num_classes: int, weights: str | Path | None = None, batchnorm: str = "local"
) -> Classifier:
    """Build backbone `name` for `num_classes` classes.

    `weights`: None or "none" (fresh), a name in the backbone's table such as "imagenet" (downloaded once), or the path of a
    state dict or checkpoint; a classifier layer of another size stays fresh. `batchnorm`: local, sync or frozen.
    Raises ValueError for an unknown name and for weights that are missing or do not fit.
    """
    backbone = lookup(BACKBONES, name, "backbone (model.name)")
    model = backbone.build(num_classes)
    if weights is not None and str(weights) != "none":
        url = backbone.weights.get(str(weights))
        state = weight_files.fetch(url) if url else weight_files.read(Path(weights))
        weight_files.load_weights(model.net, state, head=backbone.head, source=str(weights))
    convert_batchnorm(model.net, batchnorm)
    return model
