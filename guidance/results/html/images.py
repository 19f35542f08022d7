"""Images as data URIs, small enough that hundreds fit into a page.

A map is a transparent layer of its own, so that the image below it is stored once for all runs.
"""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

from guidance.pictures.overlays import OUTLINE, background, check_image, evidence, to_uint8

SIDE = 112  # pixels of the longer side of what the page holds
LEVELS = 31  # of each sign of a map, between none and full colour
_QUALITY = 80
_DARK = 165  # opacity, of 255, of what a mask leaves out


def photograph(image: Tensor, side: int = SIDE) -> str:
    """`image` [3, H, W] in [0, 1] as a JPEG."""
    check_image(image)
    return _jpeg(to_uint8(_resized(image, side).permute(1, 2, 0).double().numpy()))


def greyed(image: Tensor, side: int = SIDE) -> str:
    """What a map is drawn upon, as in `overlays.overlay`, as a JPEG."""
    check_image(image)
    return _jpeg(background(_resized(image, side)))


def map_layer(attribution: Tensor, scale: float, side: int = SIDE) -> str:
    """A signed map [H, W] as a transparent PNG: over `greyed` it looks as `overlays.overlay` with the same scale.

    Rounded to `LEVELS` of each sign, which makes it small.
    """
    values = torch.nan_to_num(attribution.detach().float().cpu(), nan=0.0, posinf=0.0, neginf=0.0)
    shown = _resized(values[None], side)[0] / (scale if scale > 0 else 1.0)
    index = (shown.clamp(-1, 1) * LEVELS).round().to(torch.int64) + LEVELS
    colour, opacity = evidence(np.linspace(-1, 1, 2 * LEVELS + 1))
    return _palette(index.numpy().astype(np.uint8), to_uint8(colour), to_uint8(opacity)[:, 0])


def outline_layer(mask: Tensor, side: int = SIDE) -> str:
    """The edge of a mask [H, W] bool, yellow on black, as a transparent PNG; empty for an empty mask."""
    if not mask.any():
        return ""
    inside = _resized(mask[None].float(), side)[0] > 0.5
    edge, beyond = inside & ~_eroded(inside), _dilated(inside) & ~inside
    index = np.where(edge.numpy(), 1, np.where(beyond.numpy(), 2, 0)).astype(np.uint8)
    yellow = [int(OUTLINE[i : i + 2], 16) for i in (1, 3, 5)]
    return _palette(index, np.array([[0, 0, 0], yellow, [0, 0, 0]], np.uint8), np.array([0, 255, 150], np.uint8))


def cells_layer(mask: Tensor) -> str:
    """A mask [h, w] in {0, 1}, one pixel for each cell, as a PNG: active cells transparent, the others dark."""
    index = (mask.cpu() <= 0).numpy().astype(np.uint8)
    return _palette(index, np.zeros((2, 3), np.uint8), np.array([0, _DARK], np.uint8))


def _resized(image: Tensor, side: int) -> Tensor:
    """[C, H, W] with its longer side at most `side`; averaged, so that nothing between the pixels is lost."""
    height, width = image.shape[1:]
    factor = min(1.0, side / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return functional.interpolate(image.detach().float().cpu()[None], size, mode="area")[0]


def _dilated(mask: Tensor) -> Tensor:
    return functional.max_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] > 0


def _eroded(mask: Tensor) -> Tensor:
    # Beyond the border counts as inside of nothing, so that a mask of the whole image has an edge too.
    return ~_dilated(functional.pad(~mask, (1, 1, 1, 1), value=True))[1:-1, 1:-1]


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return _uri("jpeg", file)


def _palette(index: NDArray[np.uint8], colours: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> str:
    """A PNG of few colours: `index` [H, W] into `colours` [N, 3] and `opacity` [N]."""
    image = Pillow.frombytes("P", index.shape[::-1], index.tobytes())
    image.putpalette(colours.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", transparency=opacity.tobytes(), optimize=True)
    return _uri("png", file)


def _uri(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
