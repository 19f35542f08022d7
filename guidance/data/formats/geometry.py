"""Shapes on their way from one format to another: surrounding boxes, turned boxes, masks, and frames that EXIF turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guidance.data.making.shapes import MAX_PIXELS, decode_shapes
from guidance.data.reading.decode import UPRIGHT
from guidance.data.reading.files import Box, Size, is_integer

Point = tuple[float, float]
# EXIF orientation -> from a point of the displayed picture to one of the stored pixels, which are height x width; the inverse
# of `decode.UPRIGHT`, for points instead of pixels.
STORED: Mapping[int, Callable[[float, float, int, int], Point]] = {
    1: lambda x, y, height, width: (x, y),
    2: lambda x, y, height, width: (width - x, y),
    3: lambda x, y, height, width: (width - x, height - y),
    4: lambda x, y, height, width: (x, height - y),
    5: lambda x, y, height, width: (y, x),
    6: lambda x, y, height, width: (y, height - x),
    7: lambda x, y, height, width: (width - y, height - x),
    8: lambda x, y, height, width: (width - y, x),
}
BACK: Mapping[int, int] = {6: 8, 8: 6}  # the orientation that undoes another; the rest undo themselves


def surrounding_box(points: Sequence[Point]) -> Box:
    """The smallest upright box that holds the points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def turned_corners(box: Box, angle: float, pivot: Point) -> list[Point]:
    """The corners of a box after a turn by `angle` degrees, clockwise as one sees it, around `pivot`."""
    x0, y0, x1, y1 = box
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    offsets = [(x - pivot[0], y - pivot[1]) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return [(pivot[0] + cosine * x - sine * y, pivot[1] + sine * x + cosine * y) for x, y in offsets]


def polygon_of(points: Sequence[Point]) -> list[float]:
    """The points as COCO lists a polygon: x, y, x, y and so on."""
    return [value for point in points for value in point]


def points_of(polygon: Sequence[float]) -> list[Point]:
    """The inverse of `polygon_of`."""
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask [H, W] as COCO's compressed run-length code."""
    from pycocotools import mask as coco

    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def mask_box(mask: NDArray[np.bool_]) -> Box:
    """The box around a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def stored_box(box: Box, orientation: int, size: Size) -> Box:
    """A box of the displayed picture in the frame of the stored pixels, which have `size` (height, width)."""
    x0, y0, x1, y1 = box
    return surrounding_box([STORED[orientation](x, y, *size) for x, y in ((x0, y0), (x1, y1))])


def stored_segmentation(shape: Any, orientation: int, size: Size) -> Any:
    """The same for polygons or a run-length code."""
    if isinstance(shape, list):
        return [polygon_of([STORED[orientation](x, y, *size) for x, y in points_of(polygon)]) for polygon in shape]
    displayed = decode_shapes([((shape["size"][0], shape["size"][1]), shape)])
    turned = UPRIGHT[BACK.get(orientation, orientation)](displayed[None].to(torch.uint8))[0]
    return encode_mask(turned.bool().numpy())


class _Bits:
    """Numbers of so many bits each, highest bit first."""

    def __init__(self, content: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(content, np.uint8))
        self._place = 0

    def read(self, count: int) -> int:
        taken = self._bits[self._place : self._place + count]
        if len(taken) < count:
            raise ValueError("has a run-length code that breaks off")
        self._place += count
        return int("".join("1" if bit else "0" for bit in taken), 2)


def decode_brush(code: Any, size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of the pixels that Label Studio's brush covers, where the alpha value is above 0.

    `code`: bytes as a list of whole numbers. A head tells how many values there are (32 bits), the bits of a value less one
    (5), and four lengths of run counts less one (4 each); then come runs: a bit that says whether one value is repeated, two
    bits that choose the length of the count, the count less one, and the value, or as many values. ValueError for a code that
    breaks off, or has another number of values than four for each pixel of `size` (height, width).
    """
    if not isinstance(code, list) or not all(is_integer(byte) and 0 <= byte < 256 for byte in code):
        raise ValueError("has a run-length code that is no list of bytes")
    bits = _Bits(bytes(code))
    count, word = bits.read(32), bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    if count != 4 * size[0] * size[1] or count > 4 * MAX_PIXELS:
        raise ValueError(f"has a run-length code of {count} values, expected four for each pixel of its image")
    values = np.zeros(count, dtype=np.uint32)
    place = 0
    while place < count:
        repeated = bits.read(1)
        end = place + 1 + bits.read(lengths[bits.read(2)])
        if repeated:
            values[place:end] = bits.read(word)
        else:
            for each in range(place, min(end, count)):
                values[each] = bits.read(word)
        place = end
    return values[3::4].reshape(size) > 0
