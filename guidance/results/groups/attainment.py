"""What k of S seeds attain in two metrics: the fronts of runs that differ in their seed, summarised without averaging."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from guidance.runs.pareto import Points, non_dominated


def attainment_surface(fronts: Sequence[Points], count: int) -> NDArray[np.float64]:
    """Corners [K, 2] of the region that at least `count` of the fronts attain, the first metric ascending.

    `fronts`: points [N_s, 2] of each seed, larger is better; those with NaN do not count. A front attains (x, y) if one of its
    points is at least as good in both. The region of `count` fronts (Fonseca & Grunert da Fonseca 2001) is all that
    lies below a corner in both metrics: `count` 1 gives the best that any seed attains, len(fronts) what all do; it is empty
    where a front has no point and all are asked for. ValueError for a count that is not between.
    """
    if not 1 <= count <= len(fronts):
        raise ValueError(f"count is {count}; expected 1 to the number of fronts, {len(fronts)}")
    arrays = [np.asarray(points, dtype=np.float64).reshape(-1, 2) for points in fronts]
    arrays = [points[~np.isnan(points).any(axis=1)] for points in arrays]
    x = np.unique(np.concatenate([points[:, 0] for points in arrays]))
    # At x a front attains what its best point at or beyond x has; `count` fronts attain the count-th best of these.
    heights = np.stack([_height(points, x) for points in arrays])
    corners: NDArray[np.float64] = np.stack([x, np.sort(heights, axis=0)[len(fronts) - count]], axis=1)
    corners = corners[np.isfinite(corners[:, 1])]
    return corners[np.array(non_dominated(corners, 0.0), dtype=np.intp)]


def _height(points: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best second metric of the points whose first is at least each of `x`; minus infinity without any."""
    order = points[np.argsort(points[:, 0])]
    best = np.maximum.accumulate(order[::-1, 1])[::-1]
    heights: NDArray[np.float64] = np.append(best, -np.inf)[np.searchsorted(order[:, 0], x, side="left")]
    return heights


def median_count(seeds: int) -> int:
    """How many of the seeds attain the median: half of them, rounded up."""
    return math.ceil(seeds / 2)
