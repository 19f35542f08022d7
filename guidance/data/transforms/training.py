"""What is done to training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torchvision.transforms import v2

from guidance.data.transforms.encodings import encoded
from guidance.data.transforms.randaugment import RandAugment
from guidance.data.transforms.views import Transform
from guidance.types import lookup


class Augmentation(NamedTuple):
    """The settings of all augmentations; each uses its own."""

    size: int  # side of the result, in pixels
    scale: tuple[float, float]
    ops: int
    magnitude: int


def _resize(settings: Augmentation) -> list[Any]:
    return [v2.Resize((settings.size, settings.size), antialias=True)]


def _flip(settings: Augmentation) -> list[Any]:
    return [*_resize(settings), v2.RandomHorizontalFlip()]


def _crop_flip(settings: Augmentation) -> list[Any]:
    return [v2.RandomResizedCrop(settings.size, scale=settings.scale, antialias=True), v2.RandomHorizontalFlip()]


def _randaugment(settings: Augmentation) -> list[Any]:
    return [*_flip(settings), RandAugment(settings.ops, settings.magnitude)]


AUGMENTATIONS: Mapping[str, Callable[[Augmentation], list[Any]]] = {
    "none": _resize,
    "flip": _flip,
    "crop_flip": _crop_flip,
    "randaugment": _randaugment,
}


def train_transform(
    image_size: int,
    augmentation: str = "none",
    encoding: str = "normalized",
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    randaugment_ops: int = 3,
    randaugment_magnitude: int = 9,
) -> Transform:
    """Training transform of a `View`.

    `augmentation`: "none" (stretch to a square, as published), "flip" (also mirror half of the images), "crop_flip"
    (random crop of an area fraction within `scale`, stretched to a square, then mirrored), or "randaugment" ("flip", then
    `randaugment_ops` operations of `randaugment_magnitude`; see `RandAugment`). `encoding`: "normalized" (ImageNet mean and
    standard deviation) or "inverse" (see `add_inverse`).
    """
    settings = Augmentation(image_size, scale, randaugment_ops, randaugment_magnitude)
    return encoded(lookup(AUGMENTATIONS, augmentation, "data.augmentation")(settings), encoding)
