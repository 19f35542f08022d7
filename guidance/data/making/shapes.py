"""Segmentations in COCO's formats, polygons and run-length codes: checked without pixels, then decoded.

pycocotools, which draws the polygons, trusts its input: counts that do not add up to the size hang it or show it memory that
is not its own, and a coordinate of 1e9 or a size of 1e12 pixels ends the process. So nothing reaches it unchecked.
"""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guidance.data.reading.files import Size, is_integer

MAX_PIXELS = 2**28  # of an image; a mask of one byte for each
OUTSIDE = 1.0  # sides of the image by which a polygon may leave it
LONGEST = 2**20  # pixels along the outline of a polygon; what it costs to draw grows with that


def is_size(size: Any) -> bool:
    """Whether `size` is (height, width): whole numbers above 0 of an image that can be decoded."""
    return (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(is_integer(side) and side > 0 for side in size)
        and size[0] * size[1] <= MAX_PIXELS
    )


def check_shape(shape: Any, size: tuple[Any, Any]) -> None:
    """Raise ValueError, with the reason, for a segmentation that cannot be decoded.

    `shape`: a list of polygons, each [x, y, x, y, ...], or a run-length code {"size": [height, width], "counts": ...}. `size`:
    (height, width) of the image as its entry says; None where it does not, which polygons need.
    """
    if isinstance(shape, dict):
        _check_code(shape, size)
    elif isinstance(shape, list):
        if not is_size(size):
            raise ValueError(f"has polygons, but its image has no height and width in pixels: {reprlib.repr(size)}")
        for polygon in shape:
            _check_polygon(polygon, size)
    else:
        raise ValueError("has a segmentation that is neither a list of polygons nor a run-length code")


def decode_shapes(shapes: list[tuple[Size, Any]]) -> Tensor:
    """The union of checked segmentations, (size, shape) each, of one image: [H, W] bool."""
    sizes = {(height, width) for (height, width), _ in shapes}
    if len(sizes) > 1:
        raise ValueError(f"its segmentations have different sizes: {sorted(sizes)}")
    ((height, width),) = sizes
    polygons = [polygon for _, shape in shapes if isinstance(shape, list) for polygon in shape]
    codes = [shape for _, shape in shapes if isinstance(shape, dict)]
    runs = [_runs(code["counts"]) for code in codes]
    if all(each[1:].all() for each in runs):
        return torch.from_numpy(_draw(polygons, codes, height, width))
    # pycocotools stops where two codes have a run of length zero at the same place.
    mask = torch.from_numpy(_unroll(runs, height, width))
    return mask | torch.from_numpy(_draw(polygons, [], height, width)) if polygons else mask


def code_size(size: tuple[Any, Any], shape: Any) -> Size:
    """(height, width) of a checked segmentation."""
    height, width = shape["size"] if isinstance(shape, dict) else size
    return height, width


def _check_code(code: dict[Any, Any], size: tuple[Any, Any]) -> None:
    own, counts = code.get("size"), code.get("counts")
    if not isinstance(own, list | tuple) or not is_size(own):
        raise ValueError(
            f"has a run-length code of size {reprlib.repr(own)}, expected [height, width] of at most {MAX_PIXELS} pixels"
        )
    if any(given is not None and given != side for given, side in zip(size, own, strict=True)):
        raise ValueError(f"has a run-length code of size {list(own)}, but its image is {list(size)} (height, width)")
    runs = _parse_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list):
        raise ValueError("has a run-length code without counts, which are a list of numbers or a text")
    if set(map(type, runs)) - {int} or (runs and (min(runs) < 0 or max(runs) > MAX_PIXELS)):
        raise ValueError("has a run-length code whose counts are not all whole numbers of at least 0")
    if sum(runs) != own[0] * own[1]:
        raise ValueError(
            f"has a run-length code whose counts add up to {sum(runs)}, but its size {list(own)} has {own[0] * own[1]} pixels"
        )


def _parse_counts(text: str) -> list[int]:
    """The runs of COCO's compressed code: 5 bits in each character from "0" on, lowest first, bit 6 says that more follow.

    From the fourth on, a run is stored as its difference from the one before the last.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63:
        raise ValueError("has a compressed run-length code with characters that do not belong there")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    if not len(last) or last[-1] != len(codes) - 1 or (last - first).max() > 6:
        raise ValueError("has a compressed run-length code that breaks off")
    place = 5 * (np.arange(len(codes)) - np.repeat(first, last - first + 1))
    values = np.add.reduceat((codes & 31) << place, first)
    values -= np.where(codes[last] & 16, np.left_shift(1, place[last] + 5), 0)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    runs: list[int] = values.tolist()
    return runs


def _check_polygon(polygon: Any, size: Size) -> None:
    # By their types, not one by one: COCO has nearly a hundred million coordinates. bool is a type of its own here.
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or set(map(type, polygon)) - {int, float}:
        raise ValueError("has a polygon that is not at least three points, as numbers x, y, x, y and so on")
    try:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2) / (size[1], size[0])
    except OverflowError:  # a whole number of hundreds of digits
        points = np.array([np.inf])
    if not ((points >= -OUTSIDE) & (points <= 1 + OUTSIDE)).all():  # neither is true of NaN
        raise ValueError(
            f"has a polygon with coordinates far outside of its image (width {size[1]}, height {size[0]}): "
            f"{reprlib.repr(polygon)}"
        )
    pixels = points * (size[1], size[0])
    length = np.abs(np.diff(pixels, axis=0, append=pixels[:1])).max(1).sum()
    if length > LONGEST:
        raise ValueError(f"has a polygon whose outline is {length:.3g} pixels long, expected at most {LONGEST}")


def _runs(counts: str | list[int]) -> NDArray[np.int64]:
    return np.asarray(_parse_counts(counts) if isinstance(counts, str) else counts, dtype=np.int64)


def _unroll(codes: list[NDArray[np.int64]], height: int, width: int) -> NDArray[np.bool_]:
    """The union of run-length codes, in one pass over the pixels: how many codes begin and end at each, summed up."""
    changes = np.zeros(height * width + 1, dtype=np.int32)
    for runs in codes:
        borders = runs.cumsum()
        np.add.at(changes, borders[:-1:2], 1)
        np.subtract.at(changes, borders[1::2], 1)
    return (changes[:-1].cumsum() > 0).reshape(width, height).T.copy()


def _draw(polygons: list[list[float]], codes: list[dict[str, Any]], height: int, width: int) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    parts = coco.frPyObjects(polygons, height, width) if polygons else []
    parts += [code if isinstance(code["counts"], str) else coco.frPyObjects(code, height, width) for code in codes]
    drawn: NDArray[np.uint8] = coco.decode(coco.merge(parts))
    return drawn.view(bool)
