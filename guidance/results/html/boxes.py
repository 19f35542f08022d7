"""Scores by the size of the mask as box plots (reproducibility study of Rao et al., Figs. 13 and 14)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guidance.evaluation.per_sample import Table
from guidance.evaluation.size_bias import SIZE_EDGES

SCORES = ("epg", "normalized_epg", "iou")
WHISKER = 1.5  # of the interquartile range


def box(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float] | None:
    """Quartiles (interpolated linearly), whiskers, mean and number of `values`; None without any.

    A whisker ends at the most extreme value within 1.5 interquartile ranges of its quartile.
    """
    if not len(values):
        return None
    found = np.sort(np.asarray(values, dtype=np.float64))
    q1, median, q3 = np.quantile(found, (0.25, 0.5, 0.75))
    reach = WHISKER * (q3 - q1)
    within = found[(found >= q1 - reach) & (found <= q3 + reach)]
    numbers = {
        "q1": q1, "median": median, "q3": q3, "low": min(within[0], q1), "high": max(within[-1], q3),
        "mean": found.mean(),
    }  # fmt: skip
    return {name: round(float(value), 5) for name, value in numbers.items()} | {"count": len(found)}


def boxes_by_size(tables: Sequence[Table], edges: Sequence[float] = SIZE_EDGES) -> dict[str, list[Any]]:
    """Score -> a `box` for each bin of the share of the image that the mask covers, over the rows of all `tables`.

    `tables` are those of `evaluation.per_sample`; pairs without an area, or without the score, do not count. Bins are those of
    `size_bias.epg_by_size`: the last includes its end.
    """
    rows = [row for table in tables for row in table if row["area"] is not None]
    area = np.array([row["area"] for row in rows], dtype=np.float64)
    found: dict[str, list[Any]] = {}
    for score in SCORES:
        values = np.array([np.nan if row.get(score) is None else row[score] for row in rows], dtype=np.float64)
        bins = []
        for low, high in pairwise(edges):
            inside = (area >= low) & ((area < high) | ((area == high) & (high == edges[-1])))
            bins.append(box(values[inside & np.isfinite(values)]))
        found[score] = bins
    return found


def bin_labels(edges: Sequence[float] = SIZE_EDGES) -> list[str]:
    """ "0–1 %" and so on."""
    return [f"{100 * low:g} to {100 * high:g} %" for low, high in pairwise(edges)]
