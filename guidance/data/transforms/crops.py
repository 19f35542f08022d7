"""Which part of an image becomes the square that a net sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from guidance.data.transforms.views import View
from guidance.types import lookup


@dataclass(frozen=True)
class Resizing:
    """How images become smaller or larger, always antialiased.

    `crop_pct`: of what is cropped in the middle, the side as a share of the short side; 256 pixels for 224 are those of the
    usual evaluation on ImageNet.
    """

    interpolation: str = "bilinear"  # or "bicubic"
    crop_pct: float = 224 / 256

    def __post_init__(self) -> None:
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"images are resized by 'bilinear' or 'bicubic' interpolation, not {self.interpolation!r}")

    @property
    def mode(self) -> InterpolationMode:
        """The interpolation as torchvision takes it."""
        return InterpolationMode(self.interpolation)

    def short_side(self, size: int) -> int:
        """Pixels of the short side from which the middle `size` are cropped: by default 256 for 224."""
        return round(size / self.crop_pct)


USUAL = Resizing()


@dataclass(frozen=True)
class Stretch:
    """The whole image as a square of `size` pixels; what is one already, as from a cache, is left alone."""

    size: int
    resizing: Resizing = USUAL

    def __call__(self, view: View) -> View:
        if "image" in view and view["image"].shape[-2:] == (self.size, self.size):
            return view  # v2.Resize would find that out for each part of the view, and take longer than to encode the image
        resized: View = v2.Resize((self.size, self.size), self.resizing.mode, antialias=True)(view)
        return resized


def stretch(size: int, resizing: Resizing = USUAL) -> list[Any]:
    """The whole image as a square of `size` pixels, whatever its shape (as the reproduction study resizes, Appendix A)."""
    return [Stretch(size, resizing)]


def center_crop(size: int, resizing: Resizing = USUAL) -> list[Any]:
    """The square in the middle: of a short side of `Resizing.short_side(size)` pixels, `size` are kept on each axis.

    AIM crops at the centre (Sec. 6.2, A.6) and does not say from which size.
    """
    return [v2.Resize(resizing.short_side(size), resizing.mode, antialias=True), v2.CenterCrop(size)]


# The squares that are the same for an image each time: in training, in evaluation, and in a cache.
SQUARES: Mapping[str, Callable[[int, Resizing], list[Any]]] = {"none": stretch, "center": center_crop}


def crop_image(image: Tensor, size: int, crop: str, resizing: Resizing = USUAL) -> Tensor:
    """[3, H, W] uint8 -> [3, size, size] uint8, exactly as a transform with that crop of SQUARES makes it."""
    view: View = {"image": tv_tensors.Image(image)}
    for step in lookup(SQUARES, crop, "crop")(size, resizing):
        view = step(view)
    square: Tensor = view["image"].as_subclass(Tensor)
    return square


def crop_annotation(view: View, size: int, crop: str, resizing: Resizing = USUAL) -> View:
    """Move every box and mask of a view as `crop_image` moves the pixels of an image of their frame; the image stays."""
    moved = {name: value for name, value in view.items() if name != "image"}
    for step in lookup(SQUARES, crop, "crop")(size, resizing):
        moved = step(moved)
    return view | moved


def _check_shift(shift: float) -> None:
    if not 0 <= shift < 0.5:
        raise ValueError(f"evaluation.shift is a share of the short side, at least 0 and below 0.5; got {shift}")


def _displaced(height: int, width: int, shift: float, side: int) -> tuple[int, int]:
    """Top and left of a square of `side` around one of four centres, `shift` of the short side from the middle on each axis."""
    corner, distance = int(torch.randint(4, ())), shift * min(height, width)
    signs = (-1, 1)[corner // 2], (-1, 1)[corner % 2]
    top, left = (round(n / 2 + s * distance - side / 2) for n, s in zip((height, width), signs, strict=True))
    return top, left


@dataclass(frozen=True)
class ShiftedCenterCrop:
    """`center_crop` around one of four other centres, drawn at random (AIM, Sec. 6.2 and A.6, Fig. 10).

    Objects are as large as in the centre crop, and what was in the middle lies near a corner or is cut. The centres are
    displaced by `shift` of the short side on both axes; the paper gives neither the displacement nor the side. Where the
    square leaves the image it is black, and belongs to no box or segmentation.
    """

    size: int
    shift: float
    resizing: Resizing = USUAL

    def __post_init__(self) -> None:
        _check_shift(self.shift)

    def __call__(self, view: View) -> View:
        short = [self.resizing.short_side(self.size)]
        resized = {key: functional.resize(x, short, self.resizing.mode, antialias=True) for key, x in view.items()}
        height, width = resized["image"].shape[-2:]
        top, left = _displaced(height, width, self.shift, self.size)
        return {key: functional.crop(x, top, left, self.size, self.size) for key, x in resized.items()}


@dataclass(frozen=True)
class ShiftedCrop:
    """A square of side (1 - 2 shift) * short side around one of four centres, drawn at random, and enlarged to `size`.

    The centres are those of `ShiftedCenterCrop`, but the square, in whole pixels, stays inside the image: objects are larger
    than in a centre crop. Kept for runs that were evaluated so.
    """

    size: int
    shift: float
    resizing: Resizing = USUAL

    def __post_init__(self) -> None:
        _check_shift(self.shift)

    def __call__(self, view: View) -> View:
        height, width = view["image"].shape[-2:]
        side = max(1, round((1 - 2 * self.shift) * min(height, width)))
        top, left = _displaced(height, width, self.shift, side)
        size: Sequence[int] = [self.size, self.size]
        return {
            key: functional.resized_crop(value, top, left, side, side, size, self.resizing.mode, antialias=True)
            for key, value in view.items()
        }
