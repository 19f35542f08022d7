"""Each verdict, from values that are written down."""

from __future__ import annotations

import math
from typing import Any

import pytest

from guidance.results.claims.verdicts import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    Judged,
    Published,
    Values,
    conclude,
    judge,
)

NAN = math.nan


def of(*values: float, first: int = 0) -> Values:
    return Values(dict(enumerate(values, start=first)))


@pytest.mark.filterwarnings("error")  # of scipy, where there is no spread
@pytest.mark.parametrize(
    ("ours", "other", "verdict"),
    [
        ((0.7, 0.72, 0.71), (0.5, 0.53, 0.5), REPRODUCED),
        ((0.5, 0.53, 0.5), (0.7, 0.72, 0.71), NOT_REPRODUCED),
        ((0.7, 0.5, 0.6), (0.6, 0.6, 0.55), INCONCLUSIVE),
        ((0.5, 0.5), (0.5, 0.5), INCONCLUSIVE),  # no difference is no direction
        ((0.75, 0.75), (0.5, 0.5), REPRODUCED),  # a difference without any spread
    ],
)
def test_directions(ours: tuple[float, ...], other: tuple[float, ...], verdict: str) -> None:
    assert judge("better", "epg", of(*ours), of(*other)).verdict == verdict
    # a metric that is better lower: the same numbers say the opposite
    opposite = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}.get(verdict, verdict)
    assert judge("better", "sparsity", of(*ours), of(*other)).verdict == opposite
    assert judge("worse", "sparsity", of(*ours), of(*other)).verdict == verdict
    assert judge("worse", "epg", of(*ours), of(*other)).verdict == opposite
    # and where a metric has no direction, the number decides
    assert judge("higher", "epg_size_correlation", of(*ours), of(*other)).verdict == verdict
    assert judge("lower", "epg_size_correlation", of(*ours), of(*other)).verdict == opposite


def test_the_numbers_behind_a_verdict() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt 3, t(0.975; 2) = 4.302653."""
    found = judge("better", "epg", of(0.3, 0.5, 0.7), of(0.2, 0.3, 0.4))
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found.ours, found.other, found.difference) == pytest.approx((0.5, 0.3, 0.2))
    assert (found.deviation, found.seeds) == (pytest.approx(0.2), (0, 1, 2))
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-6)
    assert found.reason == "the interval holds 0 (paired t-test, 3 seeds)"


def test_pairs_are_of_the_same_seed_and_other_seeds_are_not_paired() -> None:
    """The spread over seeds is large, the difference always 0.01 or 0.02: paired it is clear, else it is not."""
    ours, other = (0.1, 0.5, 0.9), (0.12, 0.51, 0.915)
    paired = judge("worse", "epg", of(*ours), of(*other))
    assert (paired.verdict, "paired" in paired.reason) == (REPRODUCED, True)
    shuffled = Values({2: 0.9, 0: 0.1, 1: 0.5})
    assert judge("worse", "epg", shuffled, of(*other)).interval == paired.interval
    welch = judge("worse", "epg", of(*ours), of(*other, first=1))
    assert (welch.verdict, "Welch's test, 3 and 3 seeds" in welch.reason) == (INCONCLUSIVE, True)
    # Welch by hand, equal sizes and spreads: standard error sqrt(2 (0.1^2) / 3), 4 degrees of freedom, t = 2.776445
    welch = judge("better", "epg", of(0.6, 0.7, 0.8), of(0.1, 0.2, 0.3, first=5))
    half = 2.776445 * math.sqrt(2 * 0.01 / 3)
    assert welch.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_against_a_constant() -> None:
    assert judge("higher", "epg_size_correlation", of(0.8, 0.82, 0.81), 0.0).verdict == REPRODUCED
    assert judge("higher", "epg_size_correlation", of(0.8, 0.82, 0.81), 1.0).verdict == NOT_REPRODUCED


@pytest.mark.parametrize("expect", ["better", "number", "same"])
def test_one_seed_decides_nothing(expect: str) -> None:
    """However clear the numbers are."""
    extra: dict[str, Any] = {"margin": 0.5} if expect == "same" else {}
    for one, reason in ((of(0.9), "one seed decides nothing"), (of(0.9, NAN), "no value of epg for seed 1")):
        found = judge(
            expect, "epg", one, None if expect == "number" else of(0.1, 0.1), published=Published(0.9, 1), **extra
        )
        assert (found.verdict, found.reason, found.seeds) == (INCONCLUSIVE, reason, (0,))
    if expect != "number":
        assert judge(expect, "epg", of(0.9, 0.9), of(0.1), **extra).verdict == INCONCLUSIVE


def test_what_is_missing_and_what_has_no_number() -> None:
    missing = Values({}, ("no group l1",))
    found = judge("better", "epg", of(0.5, 0.6), missing)
    assert (found.verdict, found.reason, found.seeds) == (NOT_RUN, "no group l1", (0, 1))
    assert judge("better", "epg", missing, of(0.5, 0.6)).verdict == NOT_RUN
    found = judge("better", "epg", of(NAN, NAN), of(0.5, 0.6))
    assert (found.verdict, found.reason) == (NOT_RUN, "no seed has a value of epg")
    found = judge("better", "epg", of(0.7, NAN, 0.71, NAN), of(0.5, 0.6, 0.52, 0.53))
    assert (found.verdict, found.seeds, found.reason) == (INCONCLUSIVE, (0, 2), "no value of epg for seed 1, 3")
    assert (found.ours, found.other) == pytest.approx((0.705, 0.5375))  # shown all the same
    late = Values({0: 0.7, 1: 0.71, 2: 0.72}, ("energy, seed 3: no result",))
    found = judge("better", "epg", late, of(0.5, 0.6, 0.52, 0.53))
    assert (found.verdict, found.notes) == (REPRODUCED, late.notes)


@pytest.mark.parametrize(
    ("ours", "published", "margin", "verdict"),
    [
        # Our interval of 0.56, 0.57, 0.58, 0.59 reaches 0.02054 to both sides of 0.575.
        ((0.56, 0.57, 0.58, 0.59), (0.58, 0.011), None, REPRODUCED),
        ((0.56, 0.57, 0.58, 0.59), (0.58, 0.010), None, INCONCLUSIVE),  # we know it less well than 0.02
        ((0.56, 0.57, 0.58, 0.59), (0.599, 0.011), None, INCONCLUSIVE),  # 0.024 away, and 0.022 is in the interval
        ((0.56, 0.57, 0.58, 0.59), (0.619, 0.011), None, NOT_REPRODUCED),  # 0.044 away
        ((0.56, 0.57, 0.58, 0.59), (0.60, NAN), 0.03, REPRODUCED),
        ((0.56, 0.57, 0.58, 0.59), (0.63, NAN), 0.03, NOT_REPRODUCED),
        ((0.56, 0.56), (0.58, 0.0101), None, REPRODUCED),
        ((0.56, 0.56), (0.58, 0.0099), None, NOT_REPRODUCED),
        ((0.1, 0.5, 0.9), (0.5, 0.01), None, INCONCLUSIVE),  # its mean is right, by accident
    ],
)
def test_numbers(ours: tuple[float, ...], published: tuple[float, float], margin: float | None, verdict: str) -> None:
    paper = Published(*published)
    found = judge("number", "epg", of(*ours), published=paper, margin=margin, scale="full")
    assert (found.verdict, found.other) == (verdict, published[0])
    for scale, told in (("small", "this is small"), ("", "this is not said")):
        found = judge("number", "epg", of(*ours), published=paper, margin=margin, scale=scale)
        assert (found.verdict, told in found.reason) == (INCONCLUSIVE, True)


def test_the_same_within_a_margin() -> None:
    """Differences 0.01, 0.02, 0.03: 0.02 +- 0.0248, that is, from -0.0048 to 0.0448."""
    ours, other = of(0.51, 0.62, 0.73), of(0.5, 0.6, 0.7)
    assert judge("same", "epg", ours, other, margin=0.045).verdict == REPRODUCED
    assert judge("same", "epg", ours, other, margin=0.044).verdict == INCONCLUSIVE
    far = of(0.61, 0.72, 0.83)
    assert judge("same", "epg", far, other, margin=0.05).verdict == NOT_REPRODUCED
    assert judge("same", "epg", other, far, margin=0.05).verdict == NOT_REPRODUCED
    assert judge("same", "epg", other, ours, margin=0.044).verdict == INCONCLUSIVE


def test_not_worse_by_a_margin() -> None:
    """The same numbers; better by any amount is not worse, and for a metric that is better lower all is turned."""
    ours, other, far = of(0.51, 0.62, 0.73), of(0.5, 0.6, 0.7), of(0.61, 0.72, 0.83)
    for metric, sides in (("epg", lambda a, b: (a, b)), ("sparsity", lambda a, b: (b, a))):

        def verdict(a: Values, b: Values, margin: float, metric: str = metric, sides: Any = sides) -> str:
            return judge("not_worse", metric, *sides(a, b), margin=margin).verdict

        assert verdict(ours, other, 0.005) == verdict(far, other, 0.005) == REPRODUCED
        assert verdict(ours, other, 0.004) == INCONCLUSIVE  # the interval reaches to -0.0048
        assert verdict(other, ours, 0.045) == REPRODUCED
        assert verdict(other, ours, 0.044) == INCONCLUSIVE
        assert verdict(other, far, 0.05) == NOT_REPRODUCED


def test_of_all_checks_that_decide() -> None:
    def all_of(*verdicts: str) -> str:
        return conclude([Judged(verdict, "") for verdict in verdicts])

    assert all_of(REPRODUCED, REPRODUCED) == REPRODUCED
    assert all_of(REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN) == NOT_REPRODUCED
    assert (
        all_of(REPRODUCED, INCONCLUSIVE) == all_of(REPRODUCED, NOT_RUN) == all_of(INCONCLUSIVE, NOT_RUN) == INCONCLUSIVE
    )
    assert all_of(NOT_RUN, NOT_RUN) == all_of() == NOT_RUN


@pytest.mark.parametrize(
    ("expect", "metric", "other", "message"),
    [
        ("best", "epg", of(0.1, 0.2), "cannot expect 'best'; it can expect better, worse"),
        ("better", "epg_size_correlation", of(0.1, 0.2), "neither better nor worse: expect 'higher' or 'lower'"),
        ("better", "epg", None, "compares with something"),
        ("same", "epg", of(0.1, 0.2), "needs a margin above 0"),
        ("not_worse", "epg", of(0.1, 0.2), "needs a margin above 0"),
        ("number", "epg", None, "needs the published one"),
    ],
)
def test_incomplete_checks(expect: str, metric: str, other: Values | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(expect, metric, of(0.5, 0.6), other)
