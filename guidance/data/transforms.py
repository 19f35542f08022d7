"""Image transforms that move boxes and segmentations with the pixels (torchvision.transforms.v2 on tv_tensors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import register_kernel

from guidance.data.randaugment import RandAugment
from guidance.types import lookup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect


class Segments(tv_tensors.Mask):  # type: ignore[misc]
    """Segmentations [k, H, W] uint8 whose cells are taken at their centres when they are resized.

    torchvision takes them at their upper left corners, which moves a segmentation by up to half a pixel of the result
    against its image and its boxes: much, where a photograph becomes 64 pixels wide.
    """


@register_kernel(functional.resize, Segments)  # type: ignore[untyped-decorator]
def _resize_segments(
    segments: Tensor, size: list[int], interpolation: Any = None, max_size: Any = None, antialias: Any = True
) -> Segments:
    height, width = segments.shape[-2:]
    if len(size) == 1:  # of the short side
        size = [int(size[0] * side / min(height, width)) for side in (height, width)]
    if not len(segments):
        return Segments(segments.new_zeros((0, *size)))
    cells = torch.nn.functional.interpolate(segments.as_subclass(Tensor)[None], size, mode="nearest-exact")[0]
    return Segments(cells)


@register_kernel(functional.resized_crop, Segments)  # type: ignore[untyped-decorator]
def _crop_segments(
    segments: Tensor, top: int, left: int, height: int, width: int, size: list[int], interpolation: Any = None,
    antialias: Any = True,
) -> Segments:  # fmt: skip
    cells = functional.crop_mask(segments.as_subclass(Tensor), top, left, height, width)
    resized: Segments = _resize_segments(cells, size)
    return resized


# "image" [3, H, W] uint8 -> [C, s, s] float; "boxes" [n, 4] float32; "segments" [k, H, W] uint8, absent if not loaded
View = dict[str, Any]
Transform = Callable[[View], View]


def add_inverse(image: Tensor) -> Tensor:
    """[..., 3, H, W] in [0, 1] -> [..., 6, H, W]: (x, 1 - x), the input of B-cos nets (Böhle et al. 2022)."""
    return torch.cat((image, 1 - image), dim=-3)


def _normalize(image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean).div_(std)


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


def _encoded(geometry: list[Callable[[View], View]], encoding: str) -> Transform:
    return partial(_transform, geometry, lookup(ENCODINGS, encoding, "encoding"))


def _transform(steps: list[Callable[[View], View]], encode: Callable[[Tensor], Tensor], view: View) -> View:
    for step in steps:
        view = step(view)
    # Not transforms of v2: their dispatch takes longer than the arithmetic of a cached image.
    image = functional.to_dtype_image(view["image"].as_subclass(Tensor).contiguous(), torch.float32, scale=True)
    return {**view, "image": encode(image)}


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


def resize_image(image: Tensor, size: int) -> Tensor:
    """[3, H, W] uint8 -> [3, size, size] uint8, exactly as `eval_transform` stretches it."""
    resized: Tensor = functional.resize_image(image, [size, size], antialias=True)
    return resized


def to_frame(view: View, height: int, width: int) -> View:
    """Move every box and mask to an image of (height, width), as its resize moves them.

    For an image that was resized when it was cached, while its annotation is in the frame of its file.
    """
    size, moved = [height, width], dict(view)
    for name, value in view.items():
        if isinstance(value, tv_tensors.BoundingBoxes):
            boxes, canvas = functional.resize_bounding_boxes(
                value.as_subclass(Tensor), canvas_size=value.canvas_size, size=size
            )
            moved[name] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)
        elif isinstance(value, tv_tensors.Mask):
            moved[name] = functional.resize(value, size)
    return moved


def to_display(images: Tensor, encoding: str) -> Tensor:
    """Undo the encoding: [B, C, H, W] network input -> [B, 3, H, W] in [0, 1]."""
    lookup(ENCODINGS, encoding, "encoding")
    if encoding == "inverse":
        return images[:, :3].clamp(0, 1)
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)
