"""Mean and correlation of plain numbers, exact: rounded once, so that they do not depend on the order of the values."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Mean, NaN of nothing; rounded once, so that it does not depend on the order of the values."""
    return math.fsum(values) / len(values) if values else math.nan


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson correlation of paired values, in [-1, 1]; NaN for fewer than two pairs and where one side is constant."""
    if len(x) != len(y):
        raise ValueError(f"a correlation needs pairs, but got {len(x)} and {len(y)} values")
    if len(x) < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        return math.nan
    middle_x, middle_y = mean(x), mean(y)
    dx, dy = [v - middle_x for v in x], [v - middle_y for v in y]
    spread = math.sqrt(math.fsum(v * v for v in dx)) * math.sqrt(math.fsum(v * v for v in dy))
    product = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    return max(-1.0, min(1.0, product / spread)) if spread > 0 else math.nan
