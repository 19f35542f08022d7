"""The bootstrap over seeds against all draws that there are."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from guidance.results.groups.comparison import compare_fronts
from guidance.runs.pareto import hypervolume

Group = list[list[tuple[float, float]]]


def all_draws(first: Group, second: Group) -> tuple[float, float, float]:
    """Every draw of seeds has the same probability; each is looked at on its own."""
    larger, dominates, dominated, count = 0.0, 0, 0, 0
    for mine in product(first, repeat=len(first)):
        for theirs in product(second, repeat=len(second)):
            a, b = [p for points in mine for p in points], [p for points in theirs for p in points]
            difference = hypervolume(a, (0, 0)) - hypervolume(b, (0, 0))
            larger += 0.5 if abs(difference) < 1e-12 else difference > 0
            forth, back = covers(a, b), covers(b, a)
            dominates += forth and not back
            dominated += back and not forth
            count += 1
    return larger / count, dominates / count, dominated / count


def covers(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> bool:
    return all(any(x >= u and y >= v for x, y in a) for u, v in b)


def test_equals_all_draws() -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        first: Group = [[tuple(p) for p in rng.random((3, 2))] for _ in range(3)]
        second: Group = [[tuple(p) for p in rng.random((2, 2))] for _ in range(2)]
        found = compare_fronts(first, second, (0, 0), resamples=20_000)
        expected = all_draws(first, second)
        assert (found.larger, found.dominates, found.dominated) == pytest.approx(expected, abs=0.02)
        assert found.undefined == ""
        back = compare_fronts(second, first, (0, 0), resamples=20_000)
        assert back.larger == pytest.approx(1 - found.larger, abs=0.02)


def test_certain_and_equal_groups() -> None:
    low: Group = [[(0.1, 0.2)], [(0.2, 0.1)]]
    high: Group = [[(0.3, 0.3)], [(0.2, 0.4), (0.4, 0.2), (math.nan, 0.9)]]
    assert compare_fronts(high, low, (0, 0))[:3] == (1.0, 1.0, 0.0)
    assert compare_fronts(low, high, (0, 0))[:3] == (0.0, 0.0, 1.0)
    same: Group = [[(0.5, 0.5)], [(0.5, 0.5)]]
    assert compare_fronts(same, same, (0, 0))[:3] == (0.5, 0.0, 0.0)
    # Neither dominates, but one has the larger hypervolume.
    assert compare_fronts([[(0.9, 0.5)]] * 2, [[(0.4, 0.6)]] * 2, (0, 0))[:3] == (1.0, 0.0, 0.0)


def test_the_draws_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    groups = [[rng.random((4, 3)) for _ in range(4)] for _ in range(2)]
    first = compare_fronts(*groups, (0, 0, 0), resamples=50, seed=1)
    assert first == compare_fronts(*groups, (0, 0, 0), resamples=50, seed=1)
    assert first.resamples == 50
    assert len({compare_fronts(*groups, (0, 0, 0), resamples=50, seed=seed).larger for seed in range(5)}) > 1


def test_one_seed_says_nothing_of_the_spread() -> None:
    found = compare_fronts([[(0.5, 0.5)]], [[(0.1, 0.1)], [(0.2, 0.2)]], (0, 0))
    assert found.undefined == "not defined: the first has 1 seed"
    assert all(math.isnan(value) for value in found[:3])
    assert (
        compare_fronts([], [[(0.1, 0.1)]], (0, 0)).undefined
        == "not defined: the first has 0 seeds and the second has 1 seed"
    )
    with pytest.raises(ValueError, match="resamples is 0; expected 1 or more"):
        compare_fronts([[(0.5, 0.5)]] * 2, [[(0.5, 0.5)]] * 2, (0, 0), resamples=0)
