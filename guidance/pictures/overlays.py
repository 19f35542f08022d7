"""Maps over images.

Colours are from Okabe & Ito's palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guidance.maps import upsample
from guidance.runs.logs import Image

FOR, AGAINST, OUTLINE = "#D55E00", "#0072B2", "#F0E442"  # evidence for and against the class; edge of a mask
TRAINED = "#56B4E9"  # edge of the mask as training has it, where it is another; dashed
_WASH, _OPACITY = 0.6, 0.8  # share of the grey image in the background; opacity of the strongest evidence


def colour_scale(attributions: Sequence[Tensor]) -> float:
    """The magnitude that is shown in full colour: the 99.5 % quantile of |value| over the given maps, 0 if all are zero.

    A quantile, because at the input single pixels outshine a map by orders of magnitude. NaN and infinity do not count.
    """
    values = np.concatenate([a.detach().float().abs().flatten().cpu().numpy() for a in attributions])
    values = values[np.isfinite(values)]
    if not values.any():
        return 0.0
    return float(np.quantile(values, 0.995)) or float(values.max())


def overlay(image: Tensor, attribution: Tensor, *, scale: float | None = None) -> Image:
    """A signed map over the greyed image: evidence for the class orange, against it blue, none transparent.

    `image` [3, H, W] in [0, 1]; `attribution` [h, w], upsampled bilinearly. Opacity grows linearly with the magnitude up
    to `scale` (default: `colour_scale` of this map; give one value to maps that are to be compared). Not finite values
    are shown as zero. Returns [H, W, 3] uint8.
    """
    check_image(image)
    attribution = torch.nan_to_num(attribution.detach().float().cpu(), nan=0.0, posinf=0.0, neginf=0.0)
    scale = colour_scale([attribution]) if scale is None else scale
    height, width = image.shape[1:]
    values = upsample(attribution[None], (height, width))[0].numpy() / (scale if scale > 0 else 1.0)
    colour, opacity = evidence(values)
    return to_uint8(_washed(image) * (1.0 - opacity) + colour * opacity)


def background(image: Tensor) -> Image:
    """What `overlay` draws upon: `image` [3, H, W] in [0, 1] greyed and lightened. Returns [H, W, 3] uint8."""
    check_image(image)
    return to_uint8(np.repeat(_washed(image), 3, axis=2))


def _washed(image: Tensor) -> NDArray[np.float64]:
    grey = image.detach().float().cpu().clamp(0, 1).mean(0).numpy()[..., None]
    lightened: NDArray[np.float64] = _WASH * grey + (1.0 - _WASH)
    return lightened


def evidence(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colour [..., 3] and opacity [..., 1], in [0, 1], of evidence [...], of which 1 is shown in full colour, and so is -1."""
    opacity = _OPACITY * np.clip(np.abs(values), 0.0, 1.0)[..., None]
    return np.where(values[..., None] > 0, _rgb(FOR), _rgb(AGAINST)), opacity


def ramp(steps: int = 201) -> NDArray[np.float64]:
    """The colours of evidence from against (left) to for (right) [1, steps, 3], in [0, 1], for a legend."""
    values = np.linspace(-1, 1, steps)[None]
    colours, opacity = evidence(values)
    return colours * opacity + (1 - _WASH / 2) * (1 - opacity)


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `image` is [3, H, W]."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"an image of shape {list(image.shape)} cannot be shown; expected [3, H, W] with values in [0, 1]"
        )


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0


def to_uint8(image: NDArray[np.float64]) -> Image:
    """[H, W, 3] in [0, 1] -> the same in 0 to 255; what lies outside is cut off."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
