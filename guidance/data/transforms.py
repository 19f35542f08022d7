"""Image transforms that move boxes and segmentations with the pixels (torchvision.transforms.v2 on tv_tensors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

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


def _resize(size: int, scale: tuple[float, float]) -> list[Any]:
    return [v2.Resize((size, size), interpolation=v2.InterpolationMode.BILINEAR, antialias=True)]


def _flip(size: int, scale: tuple[float, float]) -> list[Any]:
    return [*_resize(size, scale), v2.RandomHorizontalFlip()]


def _crop_flip(size: int, scale: tuple[float, float]) -> list[Any]:
    return [v2.RandomResizedCrop(size, scale=scale, antialias=True), v2.RandomHorizontalFlip()]


AUGMENTATIONS: Mapping[str, Callable[[int, tuple[float, float]], list[Any]]] = {
    "none": _resize,
    "flip": _flip,
    "crop_flip": _crop_flip,
}


def train_transform(
    image_size: int,
    augmentation: str = "none",
    encoding: str = "normalized",
    *,
    scale: tuple[float, float] = (0.5, 1.0),
) -> Transform:
    """Training transform of a `View`.

    `augmentation`: "none" (stretch to a square, as published), "flip" (also mirror half of the images), "crop_flip"
    (random crop of an area fraction within `scale`, stretched to a square, then mirrored). `encoding`: "normalized"
    (ImageNet mean and standard deviation) or "inverse" (see `add_inverse`).
    """
    geometry = lookup(AUGMENTATIONS, augmentation, "data.augmentation")(image_size, scale)
    encode = v2.Lambda(lookup(ENCODINGS, encoding, "encoding"), tv_tensors.Image)
    transform: Transform = v2.Compose([*geometry, v2.ToDtype(torch.float32, scale=True), encode])
    return transform


def eval_transform(image_size: int, encoding: str = "normalized") -> Transform:
    """Evaluation transform of a `View`: stretch to a square (bilinear, antialiased), then encode."""
    return train_transform(image_size, "none", encoding)


def to_display(images: Tensor, encoding: str) -> Tensor:
    """Undo the encoding: [B, C, H, W] network input -> [B, 3, H, W] in [0, 1]."""
    lookup(ENCODINGS, encoding, "encoding")
    if encoding == "inverse":
        return images[:, :3].clamp(0, 1)
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)
