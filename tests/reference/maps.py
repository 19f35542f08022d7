"""Maps as nested lists: upsampling and positive energy, in loops, straight from the definitions.

Maps and masks are tensors [h, w] or nested lists; nothing here is batched, and nothing is shared with the package.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

Map = list[list[float]]


def as_map(values: Any) -> Map:
    rows = values.tolist() if isinstance(values, Tensor) else values
    return [[float(v) for v in row] for row in rows]


def cells(a: Map) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(a)) for j in range(len(a[0]))]


def upsample(a: Any, height: int, width: int) -> Map:
    """Bilinear interpolation, align_corners False: pixel centres at (i + 1/2), borders repeated."""
    a = as_map(a)
    h, w = len(a), len(a[0])
    result = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * h / height - 0.5, 0.0)
            x = max((j + 0.5) * w / width - 0.5, 0.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            dy, dx = y - y0, x - x0
            top = a[y0][x0] * (1 - dx) + a[y0][x1] * dx
            bottom = a[y1][x0] * (1 - dx) + a[y1][x1] * dx
            result[i][j] = top * (1 - dy) + bottom * dy
    return result


def positive(a: Map) -> Map:
    return [[max(v, 0.0) for v in row] for row in a]


def positive_energy(a: Map) -> Map:
    return positive(a) if has_energy(a) else [[0.0] * len(a[0]) for _ in a]


def divided_by_peak(a: Map) -> Map:
    peak = max(abs(a[i][j]) for i, j in cells(a))
    return [[v / peak if peak > 0 else 0.0 for v in row] for row in a]


def has_energy(a: Any) -> bool:
    a = as_map(a)
    return sum(max(a[i][j], 0.0) for i, j in cells(a)) > 1e-7 * sum(abs(a[i][j]) for i, j in cells(a))
