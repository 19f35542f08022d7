"""Image transforms that move boxes and segmentations with the pixels (torchvision.transforms.v2 on tv_tensors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from guidance.data.randaugment import RandAugment
from guidance.types import lookup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect

# "image" [3, H, W] uint8 -> [C, s, s] float; "boxes" [n, 4] float32; "segments" [k, H, W] uint8, absent if not loaded
View = dict[str, Any]
Transform = Callable[[View], View]


def add_inverse(image: Tensor) -> Tensor:
    """[..., 3, H, W] in [0, 1] -> [..., 6, H, W]: (x, 1 - x), the input of B-cos nets (Böhle et al. 2022)."""
    return torch.cat((image, 1 - image), dim=-3)


def _normalize(image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean) / std


ENCODINGS: Mapping[str, Callable[[Tensor], Tensor]] = {"normalized": _normalize, "inverse": add_inverse}


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
    `randaugment_ops` operations of `randaugment_magnitude`; see `guidance.data.randaugment`). `encoding`: "normalized"
    (ImageNet mean and standard deviation) or "inverse" (see `add_inverse`).
    """
    settings = Augmentation(image_size, scale, randaugment_ops, randaugment_magnitude)
    return _encoded(lookup(AUGMENTATIONS, augmentation, "data.augmentation")(settings), encoding)


def _encoded(geometry: list[Any], encoding: str) -> Transform:
    encode = v2.Lambda(lookup(ENCODINGS, encoding, "encoding"), tv_tensors.Image)
    transform: Transform = v2.Compose([*geometry, v2.ToDtype(torch.float32, scale=True), encode])
    return transform


@dataclass(frozen=True)
class ShiftedCrop:
    """A square of side (1 - 2 shift) * short side around one of four centres, drawn at random (AIM, Sec. A.6).

    The centres are displaced from that of the image by `shift` of the short side on both axes, so that objects in the
    middle of the image come to lie at a corner. The square, in whole pixels, stays inside the image and is resized to
    `size`. The paper gives neither the displacement nor the side.
    """

    size: int
    shift: float

    def __post_init__(self) -> None:
        if not 0 <= self.shift < 0.5:
            raise ValueError(
                f"evaluation.shift is a share of the short side, at least 0 and below 0.5; got {self.shift}"
            )

    def __call__(self, view: View) -> View:
        height, width = view["image"].shape[-2:]
        short = min(height, width)
        side = max(1, round((1 - 2 * self.shift) * short))
        corner = int(torch.randint(4, ()))
        top, left = (
            round(length / 2 + sign * self.shift * short - side / 2)
            for length, sign in ((height, (-1, 1)[corner // 2]), (width, (-1, 1)[corner % 2]))
        )
        size = [self.size, self.size]
        return {
            key: functional.resized_crop(value, top, left, side, side, size, antialias=True)
            for key, value in view.items()
        }


def _center_crop(size: int, shift: float) -> list[Any]:
    # The share of the usual evaluation on ImageNet, for any size.
    return [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]


CROPS: Mapping[str, Callable[[int, float], list[Any]]] = {
    "none": lambda size, shift: [v2.Resize((size, size), antialias=True)],
    "center": _center_crop,
    "shifted": lambda size, shift: [ShiftedCrop(size, shift)],
}


def eval_transform(
    image_size: int, encoding: str = "normalized", *, crop: str = "none", shift: float = 0.25
) -> Transform:
    """Evaluation transform of a `View` (bilinear, antialiased), then the encoding.

    `crop`: "none" (stretch to a square, as published for guidance), "center" (short side to 256/224 of the size, then the
    square in the middle) or "shifted" (a random one of four squares beside the middle, to test whether a net relies on
    objects being there; see `ShiftedCrop` for `shift`).
    """
    return _encoded(lookup(CROPS, crop, "evaluation.crop")(image_size, shift), encoding)


def to_display(images: Tensor, encoding: str) -> Tensor:
    """Undo the encoding: [B, C, H, W] network input -> [B, 3, H, W] in [0, 1]."""
    lookup(ENCODINGS, encoding, "encoding")
    if encoding == "inverse":
        return images[:, :3].clamp(0, 1)
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)
