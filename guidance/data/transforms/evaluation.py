"""What is done to the images of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from guidance.data.transforms.encodings import encoded
from guidance.data.transforms.views import Transform, View
from guidance.types import lookup


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
    return encoded(lookup(CROPS, crop, "evaluation.crop")(image_size, shift), encoding)


def resize_image(image: Tensor, size: int) -> Tensor:
    """[3, H, W] uint8 -> [3, size, size] uint8, exactly as `eval_transform` stretches it."""
    resized: Tensor = functional.resize_image(image, [size, size], antialias=True)
    return resized
