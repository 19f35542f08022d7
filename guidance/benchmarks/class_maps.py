"""Maps of several classes of one image, from one forward pass, with and without the lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from guidance.attribution import Method, explain_classes
from guidance.attribution.lens import INVERSE_TEMPERATURES, lens
from guidance.maps import upsample
from guidance.models.classifier import Classifier

Temperatures = tuple[float, ...]
BASE, LENS = "", "lens"  # names of variants: the map as the method gives it, and refined as in the paper
VARIANTS: Mapping[str, Temperatures | None] = {BASE: None, LENS: INVERSE_TEMPERATURES}


@dataclass(frozen=True, eq=False)
class JudgedMethod:
    """A method to be judged: its row, and the depth at which it explains."""

    name: str  # as the user wrote it, and as tables have it
    method: Method
    depth: str


def class_maps(model: Classifier, images: Tensor, classes: Tensor, judged: JudgedMethod) -> Tensor:
    """The maps [C', B, H, W] of `classes` [B, C'] long of each of `images` [B, C, H, W], signed, as large as the images.

    All of them come from one forward pass. Maps are enlarged before they are compared: the paper's have the size of the image.
    """
    batch, number = classes.shape
    maps = explain_classes(
        model, images, lambda logits: classes, method=judged.method, depth=judged.depth
    ).maps.detach()
    size = (images.shape[2], images.shape[3])
    return upsample(maps, size).view(batch, number, *size).transpose(0, 1)


def refine(maps: Tensor, variants: Mapping[str, Temperatures | None]) -> dict[str, Tensor]:
    """Each variant of the maps [C', B, H, W]: as they are, or under the lens with these inverse temperatures."""
    return {
        name: maps if temperatures is None else lens(maps, inverse_temperatures=temperatures)
        for name, temperatures in variants.items()
    }
