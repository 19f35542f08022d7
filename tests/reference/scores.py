"""Slow versions of the scores of one upsampled map [H, W]: loops in float64, straight from the definitions."""

from __future__ import annotations

import math
from typing import Any

from tests.reference.maps import Map, as_map, cells, has_energy, positive_energy


def epg(a: Any, mask: Any) -> float:
    a, mask = as_map(a), as_map(mask)
    total = inside = 0.0
    for i, j in cells(a):
        total += max(a[i][j], 0.0)
        inside += max(a[i][j], 0.0) * mask[i][j]
    return inside / total if has_energy(a) else 0.0


def iou(a: Any, mask: Any, threshold: float) -> float:
    a, mask = as_map(a), as_map(mask)
    p = positive_energy(a)
    high, low = max(map(max, p)), min(map(min, p))
    both = either = 0
    for i, j in cells(p):
        if high == 0:
            value = 0.0
        elif high - low <= 1e-6 * high:
            value = p[i][j] / high
        else:
            value = (p[i][j] - low) / (high - low)
        active, wanted = value > threshold, mask[i][j] > 0
        both += active and wanted
        either += active or wanted
    return both / either if either else 0.0


def seg_epg(a: Any, mask: Any, segment: Any) -> float:
    a, mask, segment = as_map(a), as_map(mask), as_map(segment)
    box = sum(max(a[i][j], 0.0) for i, j in cells(a) if mask[i][j])
    both = sum(max(a[i][j], 0.0) for i, j in cells(a) if mask[i][j] and segment[i][j])
    return both / box if box > 0 and has_energy(a) else 0.0


def x_seg_epg(a: Any, segment: Any) -> float:
    a, segment = as_map(a), as_map(segment)
    total = sum(max(a[i][j], 0.0) for i, j in cells(a))
    return sum(max(a[i][j], 0.0) for i, j in cells(a) if segment[i][j]) / total if has_energy(a) else 0.0


def mirrored(place: int, size: int) -> int:
    """Walk back from the border without standing on it twice: ... 2 1 0 1 2 ..."""
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
        if size == 1:
            return 0
    return place


def blur(a: Any, sigma: float) -> Map:
    """A Gaussian of 11 x 11 pixels, all at once, mirrored at the border."""
    a = as_map(a)
    weights = {(y, x): math.exp(-(y * y + x * x) / (2 * sigma**2)) for y in range(-5, 6) for x in range(-5, 6)}
    result = [[0.0] * len(a[0]) for _ in a]
    for i, j in cells(a):
        for (y, x), weight in weights.items():
            result[i][j] += weight * a[mirrored(i + y, len(a))][mirrored(j + x, len(a[0]))] / sum(weights.values())
    return result


def region_attribution(a: Any, mask: Any, sigma: float = 2.0) -> float:
    blurred = blur(positive_energy(as_map(a)), sigma)
    total = sum(blurred[i][j] for i, j in cells(blurred))
    inside = sum(blurred[i][j] for i, j in cells(blurred) if as_map(mask)[i][j])
    return inside / total if has_energy(a) else 0.0


def pixel_scores(a: Any, mask: Any, threshold: float = 0.0) -> dict[str, float]:
    p, mask = positive_energy(as_map(a)), as_map(mask)
    limit = threshold * max(map(max, p))
    hits = sum(p[i][j] > limit and mask[i][j] > 0 for i, j in cells(p))
    missed = sum(p[i][j] <= limit and mask[i][j] > 0 for i, j in cells(p))
    wrong = sum(p[i][j] > limit and not mask[i][j] for i, j in cells(p))
    return {
        "pixel_precision": hits / (hits + wrong) if hits + wrong else 0.0,
        "pixel_recall": hits / (hits + missed) if hits + missed else 0.0,
        "pixel_f1": 2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else 0.0,
        "pixel_iou": hits / (hits + wrong + missed) if hits + wrong + missed else 0.0,
    }
