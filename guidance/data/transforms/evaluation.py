"""What is done to the images of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guidance.data.transforms.crops import USUAL, Resizing, ShiftedCenterCrop, ShiftedCrop, center_crop, stretch
from guidance.data.transforms.encodings import EncodedTransform, Encoding, encoded
from guidance.types import lookup

CROPS: Mapping[str, Callable[[int, float, Resizing], list[Any]]] = {
    "none": lambda size, shift, resizing: stretch(size, resizing),
    "center": lambda size, shift, resizing: center_crop(size, resizing),
    "shifted": lambda size, shift, resizing: [ShiftedCrop(size, shift, resizing)],
    "shifted_center": lambda size, shift, resizing: [ShiftedCenterCrop(size, shift, resizing)],
}


def eval_transform(
    image_size: int,
    encoding: str | Encoding = "normalized",
    *,
    crop: str = "none",
    shift: float = 0.25,
    resizing: Resizing = USUAL,
) -> EncodedTransform:
    """Evaluation transform of a `View`, then the encoding.

    `crop`: "none" (`stretch`), "center" (`center_crop`), or, to test whether a net relies on objects being in the middle,
    "shifted_center" (`ShiftedCenterCrop`) or "shifted" (`ShiftedCrop`), which draw one of four squares beside the middle.
    """
    return encoded(lookup(CROPS, crop, "evaluation.crop")(image_size, shift, resizing), encoding)
