"""How surely one group's front is better than another's, given that each was trained with few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guidance.runs.pareto import Points, hypervolume, non_dominated


class FrontComparison(NamedTuple):
    """Two groups, compared by `compare_fronts`; probabilities are NaN where `undefined` says why."""

    larger: float  # probability that the first has the larger hypervolume, ties counting half
    dominates: float  # that the first's front weakly dominates the second's, and is not equal to it
    dominated: float  # the other way round
    resamples: int
    undefined: str = ""


def compare_fronts(
    first: Sequence[Points],
    second: Sequence[Points],
    reference: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> FrontComparison:
    """Bootstrap over seeds: how often the front of resampled seeds of one group is better than that of the other.

    `first`, `second`: points [N_s, D] of each seed of a group, larger is better; points with NaN do not count. In each of the
    `resamples` the seeds of each group are drawn with replacement, as many as there are, independently of the other group
    (Efron & Tibshirani 1993), and the front over the drawn seeds is compared twice: by its hypervolume above `reference`
    ([D]), which always decides, and by weak dominance (each point of the other is equalled or beaten by one of its own),
    which often decides for neither. With few seeds the draws are few: three seeds have ten different ones. One seed says
    nothing of the spread over seeds, so that with it the probabilities are not defined. ValueError without resamples.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected 1 or more")
    short = [f"the {name} has {len(group)} seed{'s' if not group else ''}" for name, group in
             (("first", first), ("second", second)) if len(group) < 2]  # fmt: skip
    if short:
        return FrontComparison(math.nan, math.nan, math.nan, resamples, f"not defined: {' and '.join(short)}")
    fronts = [[_front(points, len(reference)) for points in group] for group in (first, second)]
    rng = np.random.default_rng(seed)
    drawn = [
        [frozenset(row.tolist()) for row in rng.integers(len(group), size=(resamples, len(group)))] for group in fronts
    ]
    covers = [_Cover(fronts[0], fronts[1]), _Cover(fronts[1], fronts[0])]

    @cache  # few seeds have few different draws
    def volume(group: int, seeds: frozenset[int]) -> float:
        return hypervolume(np.concatenate([fronts[group][i] for i in seeds]), reference)

    @cache
    def outcome(mine: frozenset[int], theirs: frozenset[int]) -> tuple[float, bool, bool]:
        difference = volume(0, mine) - volume(1, theirs)
        larger = 0.5 if math.isclose(volume(0, mine), volume(1, theirs), rel_tol=1e-12) else float(difference > 0)
        forth, back = covers[0](mine, theirs), covers[1](theirs, mine)
        return larger, forth and not back, back and not forth

    found = np.array([outcome(*pair) for pair in zip(*drawn, strict=True)], dtype=np.float64).mean(axis=0)
    return FrontComparison(float(found[0]), float(found[1]), float(found[2]), resamples)


def _front(points: Points, metrics: int) -> NDArray[np.float64]:
    values = np.asarray(points, dtype=np.float64).reshape(-1, metrics)
    values = values[~np.isnan(values).any(axis=1)]
    return values[non_dominated(values, 0.0)]


class _Cover:
    """Whether some seeds of a group weakly dominate some of another; every pair of points is compared once."""

    def __init__(self, mine: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> None:
        # Of each seed of theirs: [their points, seeds of mine] whether the seed has a point that is at least as good.
        self.covered = [np.stack([_reached(points, own) for own in mine], axis=1) for points in theirs]

    def __call__(self, mine: frozenset[int], theirs: frozenset[int]) -> bool:
        chosen: list[NDArray[np.bool_]] = [self.covered[seed][:, sorted(mine)] for seed in theirs]
        return all(bool(each.any(axis=1).all()) for each in chosen)


def _reached(points: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] whether each of `points` ([N, D]) is equalled or beaten by one of `by` ([M, D])."""
    pairs: NDArray[np.bool_] = np.all(by[None] >= points[:, None], axis=2)
    return np.asarray(pairs.any(axis=1))
