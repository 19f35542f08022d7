"""Mean, spread and correlation of plain numbers; mean and correlation are rounded once, whatever the order of the values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample, n - 1) over seeds; NaN of none, and a deviation of NaN of one."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def over(cls, values: Iterable[float]) -> Spread:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, 0)
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else math.nan, len(known))
