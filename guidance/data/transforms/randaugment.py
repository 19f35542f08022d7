"""RandAugment (Cubuk et al. 2020) for images with boxes and segmentations, which torchvision's own refuses.

The operations, their magnitudes and the order of the random draws are those of `torchvision.transforms.v2.RandAugment`, so
the image is the same as its image from the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

View = dict[str, Any]  # as in guidance.data.transforms, which imports this module

BINS = 31  # magnitudes are 0 to 30


def _shear_x(view: View, magnitude: float) -> View:
    return _shear(view, [math.degrees(math.atan(magnitude)), 0.0])


def _shear_y(view: View, magnitude: float) -> View:
    return _shear(view, [0.0, math.degrees(math.atan(magnitude))])


def _shear(view: View, degrees: list[float]) -> View:
    # Around the upper left corner, as in AutoAugment.
    return {
        key: functional.affine(value, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])
        for key, value in view.items()
    }


def _translate_x(view: View, magnitude: float) -> View:
    return _translate(view, [int(magnitude), 0])


def _translate_y(view: View, magnitude: float) -> View:
    return _translate(view, [0, int(magnitude)])


def _translate(view: View, pixels: list[int]) -> View:
    return {
        key: functional.affine(value, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])
        for key, value in view.items()
    }


def _rotate(view: View, magnitude: float) -> View:
    return {key: functional.rotate(value, magnitude) for key, value in view.items()}


def _of_image(change: Callable[[Tensor, float], Tensor]) -> Callable[[View, float], View]:
    """An operation that moves no pixel."""
    return lambda view, magnitude: view | {"image": change(view["image"], magnitude)}


def _up_to(limit: float) -> Callable[[int, int], Tensor]:
    return lambda height, width: torch.linspace(0.0, limit, BINS)


@dataclass(frozen=True)
class Operation:
    """What RandAugment may do to a view; magnitudes as float32, because some are cut to whole pixels."""

    apply: Callable[[View, float], View]
    magnitudes: Callable[[int, int], Tensor] | None = None  # of a view of this height and width: [BINS]; None: has none
    signed: bool = False  # the magnitude is negated for half of the images


OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(lambda view, _: view),
    "shear_x": Operation(_shear_x, _up_to(0.3), signed=True),
    "shear_y": Operation(_shear_y, _up_to(0.3), signed=True),
    "translate_x": Operation(_translate_x, lambda h, w: torch.linspace(0.0, 150.0 / 331.0 * w, BINS), signed=True),
    "translate_y": Operation(_translate_y, lambda h, w: torch.linspace(0.0, 150.0 / 331.0 * h, BINS), signed=True),
    "rotate": Operation(_rotate, _up_to(30.0), signed=True),
    "brightness": Operation(_of_image(lambda x, m: functional.adjust_brightness(x, 1.0 + m)), _up_to(0.9), signed=True),
    "color": Operation(_of_image(lambda x, m: functional.adjust_saturation(x, 1.0 + m)), _up_to(0.9), signed=True),
    "contrast": Operation(_of_image(lambda x, m: functional.adjust_contrast(x, 1.0 + m)), _up_to(0.9), signed=True),
    "sharpness": Operation(_of_image(lambda x, m: functional.adjust_sharpness(x, 1.0 + m)), _up_to(0.9), signed=True),
    "posterize": Operation(
        _of_image(lambda x, m: functional.posterize(x, int(m))),
        lambda h, w: (8 - torch.arange(BINS) / ((BINS - 1) / 4)).round(),
    ),
    "solarize": Operation(
        _of_image(lambda x, m: functional.solarize(x, 255.0 * m)), lambda h, w: torch.linspace(1.0, 0.0, BINS)
    ),
    "autocontrast": Operation(_of_image(lambda x, _: functional.autocontrast(x))),
    "equalize": Operation(_of_image(lambda x, _: functional.equalize(x))),
}


@dataclass(frozen=True)
class RandAugment:
    """`ops` operations drawn from OPERATIONS, with repetition, on a view whose image is uint8.

    `magnitude`: 0 to 30, the same for all. AIM takes 3 and 9 (its Table 4). Pixels that come from outside the image are
    black, and belong to no box or segmentation; pixels move to their nearest neighbours, as in torchvision. A box that is
    sheared or rotated becomes the smallest upright box around it, within the image, and loses its area where it leaves it.
    Raises ValueError for numbers out of range.
    """

    ops: int = 3
    magnitude: int = 9

    def __post_init__(self) -> None:
        if self.ops < 1:
            raise ValueError(f"data.randaugment_ops is the number of operations, 1 or more; got {self.ops}")
        if not 0 <= self.magnitude < BINS:
            raise ValueError(f"data.randaugment_magnitude must be within 0 and {BINS - 1}; got {self.magnitude}")

    def __call__(self, view: View) -> View:
        operations = list(OPERATIONS.values())
        for _ in range(self.ops):
            operation = operations[int(torch.randint(len(operations), ()))]
            view = operation.apply(view, self._draw_magnitude(operation, *view["image"].shape[-2:]))
        return view

    def _draw_magnitude(self, operation: Operation, height: int, width: int) -> float:
        if operation.magnitudes is None:
            return 0.0
        magnitude = float(operation.magnitudes(height, width)[self.magnitude])
        return -magnitude if operation.signed and torch.rand(()) <= 0.5 else magnitude
