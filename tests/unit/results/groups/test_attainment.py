"""Attainment surfaces against worked corners and against counting on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance.results.groups.attainment import attainment_surface, median_count

coordinate = st.integers(0, 6).map(float)
front = st.lists(st.tuples(coordinate, coordinate), max_size=5)


def test_by_hand() -> None:
    """Two stairs and one point: what one, two and all three of them attain."""
    fronts = [[(1.0, 3.0), (3.0, 1.0)], [(2.0, 2.0)], [(0.5, 4.0), (2.5, 2.5), (2.0, 0.0)]]
    assert attainment_surface(fronts, 1).tolist() == [[0.5, 4.0], [1.0, 3.0], [2.5, 2.5], [3.0, 1.0]]
    assert attainment_surface(fronts, 2).tolist() == [[0.5, 3.0], [1.0, 2.5], [2.0, 2.0], [2.5, 1.0]]
    assert attainment_surface(fronts, 3).tolist() == [[1.0, 2.0], [2.0, 1.0]]


@given(st.lists(front, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_equals_counting_on_a_grid(fronts: list[list[tuple[float, float]]]) -> None:
    grid = [(x, y) for x in np.arange(-0.5, 7, 0.5) for y in np.arange(-0.5, 7, 0.5)]
    for count in range(1, len(fronts) + 1):
        corners = attainment_surface(fronts, count)
        for x, y in grid:
            attained = sum(any(px >= x and py >= y for px, py in points) for points in fronts)
            assert any(cx >= x and cy >= y for cx, cy in corners) == (attained >= count), (count, x, y)
        assert (np.diff(corners[:, 0]) > 0).all()
        assert (np.diff(corners[:, 1]) < 0).all()


def test_what_is_not_known_attains_nothing() -> None:
    fronts = [[(1.0, math.nan), (0.5, 0.5)], [(math.nan, 2.0)]]
    assert attainment_surface(fronts, 1).tolist() == [[0.5, 0.5]]
    assert attainment_surface(fronts, 2).shape == (0, 2)


def test_counts() -> None:
    assert [median_count(seeds) for seeds in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count is {count}; expected 1 to the number of fronts, 2"):
            attainment_surface([[(1.0, 1.0)]] * 2, count)
