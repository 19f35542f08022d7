"""How much EPG depends on the size of the mask: a large mask holds much of any map.

Reproducibility study of Rao et al., Sec. 4.2 and Appendix E.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from guidance.evaluation.rows import Rows
from guidance.evaluation.statistics import mean, pearson

SIZE_EDGES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the share of the image that a mask covers


def normalized_epg(rows: Rows) -> Tensor:
    """EPG over the square root of the number of pixels of the mask [R], in [0, 1]: a single pixel is the most that fits.

    Reproducibility study of Rao et al., Sec. 4.2. It depends on the size of the network input, where the pixels are
    counted. 0 for an empty mask.
    """
    return rows.epg / rows.pixels.clamp_min(1).sqrt()


def size_correlation(rows: Rows, scores: Tensor) -> float:
    """Pearson correlation in [-1, 1] of `scores` [R] with the number of pixels of the mask, over the located pairs.

    Published (COCO test, 224 x 224 pixels, B-cos net guided at the input): 0.8209 of EPG and 0.1680 of normalised EPG
    (reproducibility study of Rao et al., Sec. 4.2). NaN where `pearson` is.
    """
    return pearson(rows.pixels[rows.located].tolist(), scores[rows.located].tolist())


class SizeBin(NamedTuple):
    """The located pairs whose mask covers at least `low` and less than `high` of the image."""

    low: float
    high: float
    pairs: int
    epg: float  # mean, in [0, 1]; NaN without pairs
    chance: float  # mean share of the pixels that the mask covers: the EPG of a uniform map; NaN without pairs


def epg_by_size(rows: Rows, edges: Sequence[float] = SIZE_EDGES) -> list[SizeBin]:
    """EPG by bins of the share of the image that the mask covers; `edges` ascend, and the last bin includes its end."""
    if len(edges) < 2 or list(edges) != sorted(set(edges)):
        raise ValueError(f"bins need at least two edges in ascending order; got {list(edges)}")
    area, epg = rows.area[rows.located], rows.epg[rows.located]
    bins = []
    for low, high in pairwise(edges):
        inside = (area >= low) & ((area < high) | ((area == high) & (high == edges[-1])))
        count = int(inside.sum())
        bins.append(SizeBin(low, high, count, mean(epg[inside].tolist()), mean(area[inside].tolist())))
    return bins
