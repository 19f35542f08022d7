"""Dominance, fronts, hypervolume and knee against hand-worked points and brute force."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance.runs.pareto import Candidate, ParetoFront, dominates, hypervolume, knee, non_dominated

METRICS = ("f1", "epg", "iou")
PUBLISHED = [(0.801, 0.5, 0.4), (0.8005, 0.5, 0.4), (0.79, 0.6, 0.4), (0.79, 0.59, 0.39)]

# Few different values, so that ties, duplicates and NaN are common.
value = st.one_of(st.integers(0, 4).map(lambda i: i / 10), st.floats(0, 1), st.just(math.nan))
points = st.lists(st.tuples(value, value, value), max_size=12)


def candidates(rows: list[tuple[float, ...]]) -> list[Candidate]:
    return [Candidate(str(i), dict(zip(METRICS, row, strict=True))) for i, row in enumerate(rows)]


def brute_force(rows: list[tuple[float, ...]], resolution: float) -> list[int]:
    """Slow second opinion: a point stays if none beats it and no equal one came earlier."""
    rounded = [[-math.inf if math.isnan(v) else round(v / resolution) * resolution for v in row] for row in rows]
    front = []
    for i, a in enumerate(rounded):
        beaten = any(all(y >= x for x, y in zip(a, b, strict=True)) and a != b for b in rounded)
        if not beaten and a not in rounded[:i]:
            front.append(i)
    return front


def test_published_example() -> None:
    # As the published code decides: equal after rounding to 0.005 keeps the earliest.
    assert non_dominated(PUBLISHED, 0.005) == [0, 2]
    assert non_dominated(PUBLISHED, 0.0) == [0, 2]
    assert non_dominated(PUBLISHED[1::-1], 0.005) == [0]
    assert non_dominated(PUBLISHED[1::-1], 0.0) == [1]


def test_what_is_better_lower_is_kept_low() -> None:
    front = ParetoFront(("f1", "never_energy"), resolution=0.0)
    values = {"a": (0.5, 0.4), "b": (0.5, 0.3), "c": (0.6, 0.35), "d": (0.4, 0.5), "e": (0.5, math.nan)}
    for name, (f1, never) in values.items():
        front.offer(Candidate(name, {"f1": f1, "never_energy": never}))
    assert [member.name for member in front.members] == ["b", "c"]
    assert front.row(front.members[0]) == [0.5, 0.7]
    with pytest.raises(ValueError, match="epg_chance says nothing about how good a net is"):
        ParetoFront(("f1", "epg_chance"))
    for name in ("iou_threshold", "skipped", "dropped", "clipped"):
        with pytest.raises(ValueError, match=f"{name} says nothing"):
            ParetoFront((name,))
    for name in ("classification", "localization"):  # what validation logs of the losses
        with pytest.raises(ValueError, match=f"{name} is a loss, .* cannot select; use a metric such as f1"):
            ParetoFront((name,))
    with pytest.raises(ValueError, match=r"a has no value for never_enrgy.* Did you mean 'never_energy'\?"):
        ParetoFront(("never_enrgy",)).offer(Candidate("a", {"f1": 0.5, "never_energy": 0.5}))


def test_dominates() -> None:
    assert dominates((0.5, 0.6), (0.5, 0.5))
    assert not dominates((0.5, 0.5), (0.5, 0.5))
    assert not dominates((0.6, 0.4), (0.5, 0.5))
    assert not dominates((0.501, 0.5), (0.5, 0.5), resolution=0.005)
    assert dominates((0.0, 0.5), (math.nan, 0.5))
    assert not dominates((math.nan, 0.5), (math.nan, 0.5))
    assert not dominates((math.nan, 0.9), (-1.0, 0.5))


def test_rounds_to_the_nearest_multiple_not_down() -> None:
    assert non_dominated([(0.5024, 0.1), (0.4976, 0.1)], 0.005) == [0]  # both 0.5
    assert non_dominated([(0.4974, 0.1), (0.5026, 0.1)], 0.005) == [1]  # 0.495 and 0.505


@pytest.mark.parametrize("rows", [[], [(math.nan, math.nan)], [(math.nan, math.nan), (math.nan, math.nan)]])
def test_degenerate_fronts(rows: list[tuple[float, ...]]) -> None:
    assert non_dominated(rows, 0.005) == [0][: len(rows)]


@given(points)
@settings(max_examples=200, deadline=None)
def test_front_equals_brute_force(rows: list[tuple[float, ...]]) -> None:
    assert non_dominated(rows, 0.005) == brute_force(rows, 0.005)


@given(points, st.randoms())
@settings(max_examples=100, deadline=None)
def test_front_does_not_depend_on_the_order(rows: list[tuple[float, ...]], random: object) -> None:
    def rounded_front(rows: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
        front = [rows[i] for i in non_dominated(rows, 0.005)]
        return {tuple(-1.0 if math.isnan(v) else float(round(v / 0.005)) for v in row) for row in front}

    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rounded_front(shuffled) == rounded_front(rows)


@given(points)
@settings(max_examples=200, deadline=None)
def test_offering_one_by_one_equals_all_at_once(rows: list[tuple[float, ...]]) -> None:
    front, files = ParetoFront(METRICS), set()
    for candidate in candidates(rows):
        kept, evicted = front.offer(candidate)
        files |= {candidate.name} if kept else set()
        assert {member.name for member in evicted} <= files
        files -= {member.name for member in evicted}
        assert files == {member.name for member in front.members}
    assert [member.name for member in front.members] == [str(i) for i in non_dominated(rows, 0.005)]


def test_offer_says_what_it_evicts() -> None:
    front = ParetoFront(
        ("a", "b"), members=[Candidate("x", {"a": 0.1, "b": 0.9}), Candidate("y", {"a": 0.5, "b": 0.5})]
    )
    assert front.offer(Candidate("equal", {"a": 0.5, "b": 0.501})) == (False, [])
    kept, evicted = front.offer(Candidate("z", {"a": 0.6, "b": 0.6, "more": 3.0}))
    assert kept
    assert [member.name for member in evicted] == ["y"]
    assert [member.name for member in front.members] == ["x", "z"]
    front.members.clear()
    assert len(front.members) == 2


def test_same_name_is_replaced() -> None:
    front = ParetoFront(
        ("a", "b"), members=[Candidate("x", {"a": 0.1, "b": 0.9}), Candidate("y", {"a": 0.5, "b": 0.5})]
    )
    worse = Candidate("y", {"a": 0.4, "b": 0.4})
    assert front.offer(worse) == (True, [])
    assert front.members[1] == worse
    kept, evicted = front.offer(Candidate("y", {"a": 0.0, "b": 0.0}))
    assert not kept
    assert evicted == [worse]
    assert [member.name for member in front.members] == ["x"]


def test_missing_metric_is_an_error_that_lists_what_there_is() -> None:
    front = ParetoFront(METRICS)
    with pytest.raises(ValueError, match=r"epoch_0001 has no value for epg, iou;.*It has: f1, map") as error:
        front.offer(Candidate("epoch_0001", {"f1": 0.1, "map": 0.2}))
    assert "f1, epg, iou" in str(error.value)
    assert front.members == []


@pytest.mark.parametrize("metrics", [(), ("f1", "f1")])
def test_metrics_of_a_front_are_different_names(metrics: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="one or more different names"):
        ParetoFront(metrics)


@pytest.mark.parametrize("resolution", [-0.1, math.nan])
def test_negative_resolution(resolution: float) -> None:
    with pytest.raises(ValueError, match="resolution is"):
        non_dominated([(0.1, 0.2)], resolution)


def test_hypervolume_by_hand() -> None:
    assert hypervolume([(0.5, 0.4)], (0, 0)) == pytest.approx(0.2)
    assert hypervolume([(0.5, 0.4), (0.2, 0.9)], (0, 0)) == pytest.approx(0.2 + 0.18 - 0.08)
    assert hypervolume([(0.5, 0.4), (0.2, 0.9), (0.1, 0.1)], (0, 0)) == pytest.approx(0.3)
    assert hypervolume([(0.5, 0.4)], (0.1, 0.2)) == pytest.approx(0.08)
    assert hypervolume([(1, 2, 3), (3, 2, 1)], (0, 0, 0)) == pytest.approx(6 + 6 - 2)
    assert hypervolume([(0.3,), (0.7,)], (0.1,)) == pytest.approx(0.6)
    for nothing in ([], [(0.5, 0.0)], [(-1.0, 2.0)], [(math.nan, 0.5)]):
        assert hypervolume(nothing, (0, 0)) == 0.0


@given(st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_hypervolume_equals_counted_cells(dimensions: int, data: st.DataObject) -> None:
    corner = st.tuples(*[st.integers(0, 4)] * dimensions)
    rows = data.draw(st.lists(corner, min_size=1, max_size=6))
    cells = sum(any(all(c < v for c, v in zip(cell, row, strict=True)) for row in rows)
                for cell in product(range(4), repeat=dimensions))  # fmt: skip
    assert hypervolume(np.array(rows, float), [0.0] * dimensions) == pytest.approx(cells)


@given(points)
@settings(max_examples=50, deadline=None)
def test_hypervolume_of_a_front_is_that_of_all(rows: list[tuple[float, ...]]) -> None:
    front = [rows[i] for i in non_dominated(rows, 0.0)]
    # A point with a NaN adds nothing, so it must not hide one without: compare the finite points only.
    finite = [row for row in rows if not any(map(math.isnan, row))]
    assert hypervolume(front, (0, 0, 0)) <= hypervolume(rows, (0, 0, 0)) + 1e-12
    assert hypervolume([finite[i] for i in non_dominated(finite, 0.0)], (0, 0, 0)) == pytest.approx(
        hypervolume(finite, (0, 0, 0))
    )


def test_knee_is_the_point_nearest_to_the_ideal_one() -> None:
    rows = [(0.9, 0.1), (0.85, 0.6), (0.5, 0.7)]
    assert knee(rows) == 1  # distances: 1, sqrt(0.125^2 + 0.167^2), 1
    # Scaling a metric does not move the knee; a metric in which all are equal does not count.
    assert knee([(1000 * a, b, 7.0) for a, b in rows]) == 1
    assert knee([(0.2, 0.3)]) == 0
    assert knee([(0.0, 1.0), (1.0, 0.0)]) == 0  # a tie: the earliest


def test_knee_with_unknown_values() -> None:
    assert knee([(math.nan, 0.9), (0.5, 0.8), (0.4, 0.1)]) == 1
    assert knee([(math.nan,), (math.nan,)]) == 0
    assert knee([(math.nan, 0.1), (math.nan, 0.2)]) == 1
    with pytest.raises(ValueError, match="without points"):
        knee([])


def test_points_are_ordered_along_a_front_of_two_metrics() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((300, 2))
    front = rows[non_dominated(rows, 0.0)]
    ordered = front[np.argsort(front[:, 0])]
    assert all(a[1] > b[1] for a, b in pairwise(ordered))
