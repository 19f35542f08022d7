"""Correlations, paired tests and intervals, by hand, against published numbers and against the definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from guidance.evaluation.significance import (
    accuracy_intervals,
    correlation,
    mcnemar,
    paired_tests,
    share,
    size_correlations,
)
from tests.support.rows import make_rows


def test_correlation_by_hand() -> None:
    """Fisher's interval: tanh(atanh r +- 1.959964 / sqrt(n - 3)). t = r sqrt((n - 2) / (1 - r^2))."""
    x, y = [1.0, 2, 3, 4, 5], [2.0, 1, 4, 3, 5]
    found = correlation(x, y)
    assert (found.r, found.pairs) == (pytest.approx(0.8), 5)
    half = 1.959964 / math.sqrt(2)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(0.8) - half), math.tanh(math.atanh(0.8) + half))
    )
    # t = 0.8 sqrt(3 / 0.36) = 2.3094 on 3 degrees of freedom: the tail of Student's t in closed form
    t = 4 / math.sqrt(3)
    tail = 0.5 - (math.atan(t / math.sqrt(3)) + (t / math.sqrt(3)) / (1 + t * t / 3)) / math.pi
    assert found.p == pytest.approx(2 * tail)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0])])
def test_no_correlation(x: list[float], y: list[float]) -> None:
    found = correlation(x, y)
    assert [math.isnan(value) for value in (found.r, found.p, found.low, found.high)] == [True] * 4
    assert found.pairs == len(x)


def test_correlations_are_the_metrics() -> None:
    """EPG 0.2, 0.4, 0.9 of masks of 1, 4 and 9 pixels; a pair that says where evidence must not be does not count."""
    columns = {
        "region_index": torch.tensor([0, 0, 1, 1]), "region_target": torch.tensor([0, 1, 0, 1]),
        "kind": torch.tensor([0, 0, 0, 2]), "area": torch.tensor([0.01, 0.04, 0.09, 0.5]).double(),
        "pixels": torch.tensor([1.0, 4, 9, 50]).double(), "never_energy": torch.zeros(4).double(),
        "has_never": torch.zeros(4).bool(), "energy": torch.ones(4).bool(), "epg": torch.tensor([0.2, 0.4, 0.9, 0]).double(),
        "iou": torch.zeros(4, 1).double(), "seg_epg": torch.zeros(4).double(), "x_seg_epg": torch.zeros(4).double(),
        "has_segment": torch.zeros(4).bool(),
    }  # fmt: skip
    rows = make_rows([[1, 0], [0, 1]], [[1, 1], [1, 1]], thresholds=(0.5,), **columns)
    found = size_correlations(rows)
    expected = correlation([1, 4, 9], [0.2, 0.4, 0.9]), correlation([1, 4, 9], [0.2, 0.2, 0.3])
    assert tuple(found) == ("epg_size_correlation", "normalized_epg_size_correlation")
    for value, wanted in zip(found.values(), expected, strict=True):
        assert value == pytest.approx(wanted)


def test_wilson_by_hand() -> None:
    """(p + z^2/2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2/n); 0 of n: z^2 / (n + z^2)."""
    found, z = share(8, 10), 1.959964
    half = z * math.sqrt(0.8 * 0.2 / 10 + z * z / 400)
    ends = [(0.8 + z * z / 20 + sign * half) / (1 + z * z / 10) for sign in (-1, 1)]
    assert (found.value, found.low, found.high) == pytest.approx((0.8, *ends), abs=1e-6)
    assert tuple(share(0, 10)) == (0, 10, 0, pytest.approx(z * z / (10 + z * z), abs=1e-6))
    empty = share(0, 0)
    assert [math.isnan(value) for value in (empty.value, empty.low, empty.high)] == [True] * 3
    for wrong in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"{wrong[0]} of {wrong[1]} is no share"):
            share(*wrong)


def test_intervals_of_groups() -> None:
    logits, targets = [[1, 0]] * 4, [[1, 0], [1, 0], [0, 1], [1, 0]]
    groups = {"groups": torch.tensor([0, 0, 0, 1]), "group_names": ("land", "water", "air")}
    found = accuracy_intervals(make_rows(logits, targets, single_label=True, **groups))
    assert {name: (row.right, row.total) for name, row in found.items()} == {
        "accuracy": (3, 4), "accuracy_group/land": (2, 3), "accuracy_group/water": (1, 1), "accuracy_group/air": (0, 0),
    }  # fmt: skip
    assert found["accuracy"] == share(3, 4)
    assert accuracy_intervals(make_rows(logits, targets, **groups)) == {}  # with several labels, accuracy is no count


def test_paired_tests_by_hand() -> None:
    """Differences 1, 2, 3, -1: mean 1.25, standard error sqrt(35/12 / 4) = 0.85391, t(0.975; 3) = 3.182446."""
    found = paired_tests([0.0, 1, 2, 3], [1.0, 3, 5, 2])
    error = math.sqrt(35 / 12 / 4)
    assert (found.images, found.difference) == (4, 1.25)
    assert found.t == pytest.approx(1.25 / error)
    assert found.t_interval == pytest.approx((1.25 - 3.182446 * error, 1.25 + 3.182446 * error), rel=1e-6)
    # ranks of 1, 1, 2, 3 are 1.5, 1.5, 3, 4; the smaller sum is that of -1. Brute force over the 16 signs:
    sums = [
        sum(r for r, s in zip((1.5, 1.5, 3, 4), signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=4)
    ]
    exact = 2 * sum(total <= 1.5 for total in sums) / 16
    assert (found.wilcoxon, found.wilcoxon_p) == (1.5, pytest.approx(exact))


def test_bootstrap_is_of_the_images() -> None:
    """Of 4 images with the differences 0, 0, 0, 1 the mean of a resample is k/4 with binomial probability: 2.5 % to 97.5 %."""
    found = paired_tests([0.0] * 4, [0.0, 0, 0, 1.0])
    assert found.bootstrap == (0.0, 0.75)
    assert found.bootstrap == paired_tests([0.0] * 4, [0.0, 0, 0, 1.0]).bootstrap
    many = paired_tests([0.0] * 400, [float(i % 2) for i in range(400)])
    assert many.bootstrap == pytest.approx(many.t_interval, abs=0.005)


def test_nothing_decides() -> None:
    for first, second in (([0.5], [0.7]), ([0.5, 0.5], [0.5, 0.5])):
        found = paired_tests(first, second)
        assert found.difference == pytest.approx(second[0] - first[0])
        assert all(math.isnan(value) for value in (*found.t_interval, *found.bootstrap, *found[4:]))
    for wrong in (([], []), ([1.0], [])):
        with pytest.raises(ValueError, match="one value of both nets for each image"):
            paired_tests(*wrong)


def test_mcnemar_by_hand() -> None:
    few = mcnemar(1, 5)
    assert few.exact
    assert few.p == pytest.approx(2 * (1 + 6) / 2**6)
    assert math.isnan(few.statistic)
    assert mcnemar(5, 1).p == few.p
    assert mcnemar(0, 0).p == 1
    assert mcnemar(12, 12).exact
    many = mcnemar(10, 15)
    assert not many.exact
    assert many.statistic == pytest.approx((5 - 1) ** 2 / 25)
    assert many.p == pytest.approx(math.erfc(math.sqrt(many.statistic / 2)))
    assert mcnemar(13, 13).statistic == 0
    assert mcnemar(13, 13).p == 1


def test_table_8_of_the_study() -> None:
    """t = -4.42 of six images has p = 0.0069. Of 99 changes, 80 % (80) one way, McNemar's p is below 0.0001, as printed; the
    printed statistic, 19.0, is the smaller count, not a chi-square."""
    differences = [0.0, 1, 2, 3, 4, 5]
    scale = math.sqrt(3.5 / 6)  # their standard error; a shift makes t whatever is wanted
    found = paired_tests([0.0] * 6, [d - 2.5 - 4.42 * scale for d in differences])
    assert (found.t, found.t_p) == (pytest.approx(-4.42), pytest.approx(0.0069, abs=5e-5))
    changes = mcnemar(19, 80)
    assert changes.p < 0.0001
    assert changes.statistic == pytest.approx(60**2 / 99)
