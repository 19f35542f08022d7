"""Fronts and hypervolumes of many candidates: as the definitions say, whatever the number, and fast enough to redraw."""

from __future__ import annotations

import math
import time
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from guidance.runs import pareto
from guidance.runs.pareto import hypervolume, non_dominated

Rows = NDArray[np.float64]
value = st.one_of(
    st.integers(-2, 4).map(lambda i: i / 10), st.floats(-1, 1), st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
)


def one_by_one(rows: Rows, resolution: float) -> list[int]:
    """The definition, a point at a time: none beats it, and no equal one came earlier; NaN is minus infinity."""
    grid = np.rint(rows / resolution) if resolution else rows
    grid = np.where(np.isnan(grid), -np.inf, grid)
    front = []
    for i, point in enumerate(grid):
        equal = (grid == point).all(axis=1)
        beaten = ((grid >= point).all(axis=1) & ~equal).any()
        if not beaten and not equal[:i].any():
            front.append(i)
    return front


def on_a_sphere(count: int, metrics: int, seed: int = 0) -> Rows:
    """Points of which none dominates another."""
    rows = np.random.default_rng(seed).random((count, metrics)) + 0.01
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def inclusion_exclusion(rows: Rows) -> float:
    """Volume of the union of boxes from 0, as the alternating sum over all their intersections."""
    total = 0.0
    for size in range(1, len(rows) + 1):
        for chosen in combinations(rows, size):
            total -= (-1) ** size * float(np.prod(np.min(chosen, axis=0)))
    return total


@pytest.mark.parametrize("metrics", [1, 2, 3, 4])
@pytest.mark.parametrize("resolution", [0.0, 0.005, 0.05])
def test_a_front_of_more_points_than_are_compared_at_a_time(metrics: int, resolution: float) -> None:
    rng = np.random.default_rng(metrics)
    spread, sphere = rng.random((900, metrics)), on_a_sphere(900, metrics)
    spread[rng.random(spread.shape) < 0.02] = np.nan
    for rows in (spread, sphere, np.concatenate([sphere, spread, sphere])):
        assert non_dominated(rows, resolution) == one_by_one(rows, resolution)
    if metrics > 1:
        assert len(non_dominated(sphere, 0.0)) == 900


@given(st.integers(1, 4), st.data())
@settings(max_examples=200, deadline=None)
def test_a_front_of_any_values(metrics: int, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.tuples(*[value] * metrics), min_size=1, max_size=12)))
    for resolution in (0.0, 0.05):
        assert non_dominated(rows, resolution) == one_by_one(rows, resolution)


@given(st.integers(1, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_hypervolume_equals_inclusion_and_exclusion(metrics: int, data: st.DataObject) -> None:
    number = st.one_of(st.floats(0, 1), st.integers(0, 4).map(lambda i: i / 4))  # ties are common
    rows = np.array(data.draw(st.lists(st.tuples(*[number] * metrics), min_size=1, max_size=8)))
    assert hypervolume(rows, [0.0] * metrics) == pytest.approx(inclusion_exclusion(rows), abs=1e-12)
    assert hypervolume(2 * rows - 1, [-1.0] * metrics) == pytest.approx(
        2**metrics * inclusion_exclusion(rows), abs=1e-9
    )


@pytest.mark.parametrize("metrics", [1, 2, 3, 4])
def test_hypervolume_equals_the_share_of_random_points_below_the_front(metrics: int) -> None:
    rows = np.concatenate([on_a_sphere(60, metrics), np.random.default_rng(1).random((60, metrics))])
    thrown = np.random.default_rng(2).random((20_000, metrics))
    share = (thrown[:, None] <= rows[None]).all(axis=2).any(axis=1).mean()
    assert hypervolume(rows, [0.0] * metrics) == pytest.approx(share, abs=4 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize(("metrics", "count"), [(4, 300), (5, 40)])
def test_hypervolume_is_that_of_its_slices(metrics: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of points whose volume is computed with a matrix: between two levels of the last metric."""
    rows = np.concatenate([on_a_sphere(count, metrics), np.random.default_rng(1).random((count // 3, metrics))])
    levels = np.sort(np.append(rows[:, -1], 0.0))
    slices = sum(
        (high - low) * hypervolume(rows[rows[:, -1] >= high][:, :-1], [0.0] * (metrics - 1))
        for low, high in pairwise(levels)
    )
    for few in (0, 10, 256):
        monkeypatch.setattr(pareto, "_FEW", few)
        assert hypervolume(rows, [0.0] * metrics) == pytest.approx(slices, rel=1e-12)


def test_hypervolume_without_end() -> None:
    assert hypervolume([(math.inf, 0.5), (0.2, 0.7)], (0, 0)) == math.inf
    assert hypervolume([(math.inf, 0.0), (0.2, 0.5)], (0, 0)) == pytest.approx(0.1)


@pytest.mark.parametrize(("metrics", "count"), [(2, 10_000), (3, 10_000), (4, 500)])
def test_so_many_candidates_take_no_time_to_notice(metrics: int, count: int) -> None:
    """Even where none dominates another. A generous bound: it takes a quarter of a second, of this process alone."""
    rows = on_a_sphere(count, metrics)
    begin = time.process_time()
    assert len(non_dominated(rows, 0.0)) == count
    # The part of the disc, or ball, where all are positive; few points leave more of it out.
    whole, left = {2: (math.pi / 4, 0.01), 3: (math.pi / 6, 0.01), 4: (math.pi**2 / 32, 0.1)}[metrics]
    assert hypervolume(rows, [0.0] * metrics) == pytest.approx(whole, abs=left)
    assert time.process_time() - begin < 1
