"""What is done to training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torchvision.transforms import v2

from guidance.data.transforms.crops import SQUARES, USUAL, Resizing
from guidance.data.transforms.encodings import EncodedTransform, Encoding, encoded
from guidance.data.transforms.randaugment import RandAugment
from guidance.types import lookup


class Augmentation(NamedTuple):
    """The settings of all augmentations; each uses its own."""

    size: int  # side of the result, in pixels
    crop: str
    scale: tuple[float, float]
    ops: int
    magnitude: int
    resizing: Resizing


def _square(settings: Augmentation) -> list[Any]:
    return lookup(SQUARES, settings.crop, "data.crop")(settings.size, settings.resizing)


def _flip(settings: Augmentation) -> list[Any]:
    return [*_square(settings), v2.RandomHorizontalFlip()]


def _crop_flip(settings: Augmentation) -> list[Any]:
    crop = v2.RandomResizedCrop(
        settings.size, scale=settings.scale, interpolation=settings.resizing.mode, antialias=True
    )
    return [crop, v2.RandomHorizontalFlip()]


def _operations(settings: Augmentation) -> list[Any]:
    return [RandAugment(settings.ops, settings.magnitude)]


AUGMENTATIONS: Mapping[str, Callable[[Augmentation], list[Any]]] = {
    "none": _square,
    "flip": _flip,
    "crop_flip": _crop_flip,
    "randaugment": lambda settings: [*_flip(settings), *_operations(settings)],
    "randaugment_only": lambda settings: [*_square(settings), *_operations(settings)],
}


def train_transform(
    image_size: int,
    augmentation: str = "none",
    encoding: str | Encoding = "normalized",
    *,
    crop: str = "none",
    scale: tuple[float, float] = (0.5, 1.0),
    randaugment_ops: int = 3,
    randaugment_magnitude: int = 9,
    resizing: Resizing = USUAL,
) -> EncodedTransform:
    """Training transform of a `View`.

    `crop`: the square of an image that is augmented, a name in `crops.SQUARES`. `augmentation`: "none"
    (as in the published code of model guidance), "flip" (mirror half of the images), "crop_flip" (instead of `crop`, a random
    crop of an area fraction within `scale`, stretched to a square, then mirrored), "randaugment" ("flip", then
    `randaugment_ops` operations of `randaugment_magnitude`; see `RandAugment`), or "randaugment_only" (those without the
    mirroring, as in AIM's Table 4). `encoding`: "normalized" (ImageNet mean and standard deviation), "inverse" (see
    `add_inverse`), or one of one's own.
    """
    settings = Augmentation(image_size, crop, scale, randaugment_ops, randaugment_magnitude, resizing)
    return encoded(lookup(AUGMENTATIONS, augmentation, "data.augmentation")(settings), encoding)
