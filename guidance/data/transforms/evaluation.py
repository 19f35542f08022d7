"""What is done to the images of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guidance.data.transforms.crops import ShiftedCenterCrop, ShiftedCrop, center_crop, stretch
from guidance.data.transforms.encodings import EncodedTransform, Encoding, encoded
from guidance.types import lookup

CROPS: Mapping[str, Callable[[int, float], list[Any]]] = {
    "none": lambda size, shift: stretch(size),
    "center": lambda size, shift: center_crop(size),
    "shifted": lambda size, shift: [ShiftedCrop(size, shift)],
    "shifted_center": lambda size, shift: [ShiftedCenterCrop(size, shift)],
}


def eval_transform(
    image_size: int, encoding: str | Encoding = "normalized", *, crop: str = "none", shift: float = 0.25
) -> EncodedTransform:
    """Evaluation transform of a `View` (bilinear, antialiased), then the encoding.

    `crop`: "none" (`stretch`), "center" (`center_crop`), or, to test whether a net relies on objects being in the middle,
    "shifted_center" (`ShiftedCenterCrop`) or "shifted" (`ShiftedCrop`), which draw one of four squares beside the middle.
    """
    return encoded(lookup(CROPS, crop, "evaluation.crop")(image_size, shift), encoding)
