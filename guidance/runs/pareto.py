"""Dominance over several metrics; no files, no tensors. Points are maximised, candidates in the direction of each metric.

Rao et al. 2023 ("Studying How to Efficiently and Effectively Guide Models with Explanations") select checkpoints by the
front of (F1, EPG, IoU). As in their published code, values are rounded to a resolution of 0.005 before they are compared.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from guidance.evaluation.metrics import oriented
from guidance.types import suggestion

Points: TypeAlias = Sequence[Sequence[float]] | NDArray[np.float64]  # [N, D]: N candidates, D metrics
_FEW = 256  # points whose volume is computed with a matrix
_BLOCK = 256  # points that are compared with the front at a time


class Candidate(NamedTuple):
    """Something to select: a checkpoint, by name, and its metrics (at least those of the front)."""

    name: str
    values: Mapping[str, float]


def _grid(points: Points, resolution: float) -> NDArray[np.float64]:
    """[N, D] multiples of `resolution` (the values themselves where it is 0); NaN becomes minus infinity."""
    if not resolution >= 0:
        raise ValueError(f"resolution is {resolution}; expected 0 (compare exactly) or a positive number such as 0.005")
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"points have shape {list(values.shape)}; expected [candidates, metrics]")
    grid = np.rint(values / resolution) if resolution > 0 else values
    return np.where(np.isnan(grid), -np.inf, grid)


def dominates(a: Sequence[float], b: Sequence[float], *, resolution: float = 0.0) -> bool:
    """Whether `a` is at least as good as `b` in every metric, and better in one. NaN is worse than any number."""
    first, second = _grid([a, b], resolution)
    return bool((first >= second).all() and (first > second).any())


def non_dominated(points: Points, resolution: float = 0.005) -> list[int]:
    """Ascending indices of the points ([N, D], larger is better) that no other point dominates.

    Values are rounded to the nearest multiple of `resolution` first (0: compared exactly). Of points that are then
    equal the earliest stays. NaN counts as the worst possible value, so a lone point of NaNs is still a front: what a run
    stores depends on it. Fronts over several runs leave such points out first (`guidance.results`).
    """
    if len(points) == 0:
        return []
    grid = _grid(points, resolution)
    # Ranks compare faster than floats, and put 0.0 and -0.0 together.
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in grid.T]).astype(np.int32)
    order = np.lexsort(ranks[::-1])  # stable: of equal points the earliest comes first
    ordered = ranks[:, order]
    first = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))
    order = order[first][::-1]  # now a point can only be dominated by one before it
    ranks = ranks[:, order]
    front = np.empty(0, dtype=np.intp)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        beaten = _at_least(ranks[:, front], ranks[:, block]).any(axis=0)
        beaten |= _at_least(ranks[:, block], ranks[:, block]).sum(axis=0) > 1  # by another than itself
        front = np.append(front, block[~beaten])
    return sorted(order[front].tolist())


def _at_least(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[A, B] whether each of `first` ([D, A]) is at least as good in every metric as each of `second` ([D, B])."""
    every = np.ones((first.shape[1], second.shape[1]), dtype=bool)
    for a, b in zip(first, second, strict=True):
        every &= a[:, None] >= b
    return every


class ParetoFront:
    """The candidates that no other candidate offered so far dominates.

    Offering candidates one by one gives the same members, in the same order, as `non_dominated` of all of them. It
    keeps no files: `offer` says what to keep and what to delete.
    """

    def __init__(self, metrics: Sequence[str], *, resolution: float = 0.005, members: Iterable[Candidate] = ()) -> None:
        if not metrics or len(set(metrics)) != len(metrics):
            raise ValueError(f"the metrics of a front are {list(metrics)}; expected one or more different names")
        for metric in metrics:
            oriented(metric, 0.0)  # raises where it has no direction
        self.metrics = tuple(metrics)
        self.resolution = resolution
        self._members: list[Candidate] = []
        for member in members:
            self.offer(member)

    @property
    def members(self) -> list[Candidate]:
        """The front, in the order in which its candidates were offered."""
        return list(self._members)

    def row(self, candidate: Candidate) -> list[float]:
        """The candidate's values in the order of the metrics, so that larger is better; ValueError if it lacks one."""
        missing = [metric for metric in self.metrics if metric not in candidate.values]
        if missing:
            hint = suggestion(missing[0], candidate.values)
            raise ValueError(
                f"{candidate.name} has no value for {', '.join(missing)}; the front is over {', '.join(self.metrics)}.{hint} "
                f"It has: {', '.join(candidate.values) or 'no metrics'}."
            )
        return [oriented(metric, float(candidate.values[metric])) for metric in self.metrics]

    def offer(self, candidate: Candidate) -> tuple[bool, list[Candidate]]:
        """Add the candidate unless it is dominated, or equal to a member; returns (kept, evicted members).

        A candidate with the name of a member takes its place: the old values no longer count, and if the new ones are
        dominated, the old member is evicted.
        """
        others = [member for member in self._members if member.name != candidate.name]
        replaced = [member for member in self._members if member.name == candidate.name]
        contenders = [*others, candidate]
        front = set(non_dominated([self.row(contender) for contender in contenders], self.resolution))
        kept = len(others) in front
        self._members = [contenders[i] for i in sorted(front)]
        evicted = [member for i, member in enumerate(others) if i not in front]
        return kept, evicted if kept else replaced


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Exact volume that the points ([N, D], larger is better) dominate above `reference` ([D]).

    The measure of the union of the boxes between `reference` and each point (Zitzler & Thiele 1998). A point that is
    NaN or not above the reference in some metric adds nothing. N log N for up to three metrics (three: the sweep of
    Fonseca, Paquete & Lopez-Ibanez 2006); for each metric more, another factor N of the points that are on the front: with
    four metrics 1,000 such points take half a second, 10,000 about twenty.
    """
    if len(points) == 0:
        return 0.0
    gains = np.asarray(points, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    gains = gains[(gains > 0).all(axis=1)]
    if np.isinf(gains).any():
        return math.inf
    return _volume(gains)


def _volume(gains: NDArray[np.float64]) -> float:
    """Volume of the union of the boxes between 0 and each of `gains` ([N, D], finite, above 0)."""
    gains = gains[non_dominated(gains, 0.0)]
    if len(gains) == 0:
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    depths = gains[:, -1] - np.append(gains[1:, -1], 0.0)
    if gains.shape[1] == 2:
        return float((gains[:, 0] * depths).sum())  # on a front the first metric grows as the last falls
    volume, base = 0.0, 0.0
    add = _Staircase().add if gains.shape[1] == 3 else _GrowingFront(gains.shape[1] - 1).add
    for row, depth in zip(gains[:, :-1], depths, strict=True):
        base += add(*row.tolist())
        volume += depth * base
    return float(volume)


class _GrowingFront:
    """The volume below a front of three metrics or more that grows point by point."""

    def __init__(self, metrics: int) -> None:
        self.points = np.empty((0, metrics))  # without those that a later one dominates: they are only few of all

    def add(self, *values: float) -> float:
        """The volume that a point, above 0 in all, adds: its box less what the others cover in it."""
        point = np.array(values)
        if (self.points >= point).all(axis=1).any():
            return 0.0
        covered = np.minimum(self.points, point)
        if len(covered) > _FEW:
            covered = covered[non_dominated(covered, 0.0)]
        few = len(covered) <= _FEW and len(values) == 3
        added = float(point.prod()) - (_volume_of_few(covered) if few else _volume(covered))
        self.points = np.vstack([self.points[(self.points > point).any(axis=1)], point])
        return added


def _volume_of_few(gains: NDArray[np.float64]) -> float:
    """As `_volume`, of [N, 3], by N x N heights: faster than the staircase while these are few."""
    x, y, z = gains[np.argsort(-gains[:, 2])].T
    ends = np.sort(x)
    heights = np.maximum.accumulate(np.where(x[:, None] >= ends, y[:, None], 0.0), axis=0)
    return float((heights @ np.diff(ends, prepend=0.0)) @ (z - np.append(z[1:], 0.0)))


class _Staircase:
    """The area below a front of two metrics that grows point by point; x ascends, y descends."""

    def __init__(self) -> None:
        self.x, self.y = [0.0, math.inf], [math.inf, 0.0]

    def add(self, x: float, y: float) -> float:
        """The area that a point, above 0 in both, adds."""
        right = bisect_left(self.x, x)
        if self.y[right] >= y:
            return 0.0
        left, gained = right - 1, 0.0
        end = x
        height = self.y[right]
        while self.y[left] <= y:  # covered from now on
            gained += (end - self.x[left]) * (y - height)
            end, height = self.x[left], self.y[left]
            left -= 1
        gained += (end - self.x[left]) * (y - height)
        self.x[left + 1 : right], self.y[left + 1 : right] = [x], [y]
        return gained


def knee(points: Points) -> int:
    """Index of the balanced compromise on a front ([N, D], larger is better): the point nearest to the ideal one.

    Each metric is scaled to [0, 1] over the given points (a metric in which all are equal does not count); the ideal
    point has 1 everywhere; distances are Euclidean; the earliest wins a tie. NaN is scaled to 0.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError("the knee of a front without points is not defined")
    values = np.where(np.isfinite(values), values, np.nan)
    columns = [column for column in values.T if not np.isnan(column).all()]
    if not columns:
        return 0
    known = np.stack(columns, axis=1)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    scaled = np.where(high > low, (known - low) / np.where(high > low, high - low, 1.0), 1.0)
    distance = np.linalg.norm(1.0 - np.where(np.isnan(known), 0.0, scaled), axis=1)
    return int(distance.argmin())
