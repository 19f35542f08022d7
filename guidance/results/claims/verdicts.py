"""Verdicts from the values of each seed. Nothing is read here, and nothing but the values decides.

The rules, for one check:

- Without a result of a group that the check needs it is *not run*. A seed that was evaluated and has no number (NaN) makes it
  *inconclusive*, and is named: leaving out the seeds that failed would favour what fails. A seed without a result is named too.
- With one seed on either side it is *inconclusive*: a claim is never reproduced, or refuted, by one seed.
- Directions ("better", "worse" by the metric's own direction; "higher", "lower" as numbers): the 95 % interval of the mean
  difference, by a paired t-test where both sides have the same seeds, else by Welch's. Above 0 as claimed: *reproduced*;
  below: *not reproduced*; 0 inside: *inconclusive*.
- "same": the interval lies within the margin: *reproduced*; it does not meet it: *not reproduced*; else *inconclusive*.
- "number": the distance of our mean from the published one is at most twice the larger of the two standard deviations:
  *reproduced*, else *not reproduced*. Only of an experiment of the scale "full": at another, *inconclusive*.

A claim is *reproduced* where all checks that decide are, *not reproduced* where one is not, *not run* where none was run, and
else *inconclusive*.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from guidance.evaluation.metrics import metric_of

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN)
EXPECTATIONS = ("better", "worse", "higher", "lower", "same", "number")
CONFIDENCE = 0.95
TINY = 1e-12  # what rounding makes of equal differences
FULL = "full"  # the scale at which numbers are compared


class Published(NamedTuple):
    """A printed number, in the unit of our values; `deviation` is NaN where none is printed."""

    mean: float
    deviation: float


class Values(NamedTuple):
    """What an experiment has of one side of a check."""

    by_seed: Mapping[int, float]  # NaN where a run was evaluated, but has no such number
    notes: tuple[str, ...] = ()  # what is missing, for people

    @property
    def finite(self) -> dict[int, float]:
        """Without the seeds that have no number."""
        return {seed: value for seed, value in self.by_seed.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Judged:
    """The verdict on one check, and the numbers that it comes from."""

    verdict: str
    reason: str
    ours: float = math.nan  # mean over the seeds
    deviation: float = math.nan  # their standard deviation (n - 1)
    seeds: tuple[int, ...] = ()
    other: float = math.nan  # mean of the side that it is compared with
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    notes: tuple[str, ...] = field(default=())


def judge(
    expect: str,
    metric: str,
    ours: Values,
    other: Values | float | None = None,
    *,
    margin: float | None = None,
    published: Published | None = None,
    scale: str = FULL,
) -> Judged:
    """The verdict on one check, by the rules above.

    `other`: the values that ours are compared with, or a constant; `margin` of "same", `published` of "number". Raises
    ValueError for an expectation that is unknown, or that lacks what it needs.
    """
    if expect not in EXPECTATIONS:
        raise ValueError(f"a check cannot expect {expect!r}; it can expect {', '.join(EXPECTATIONS)}")
    sides = [ours, *([other] if isinstance(other, Values) else [])]
    notes = tuple(note for side in sides for note in (*side.notes, *_without_number(side, metric)))
    found = ours.finite
    numbers = list(found.values())
    mean = statistics.fmean(numbers) if numbers else math.nan
    spread = statistics.stdev(numbers) if len(numbers) > 1 else math.nan
    base = Judged(NOT_RUN, "", mean, spread, tuple(sorted(found)), notes=notes)
    for side in sides:
        if not side.by_seed:
            return _with(base, NOT_RUN, "; ".join(side.notes) or "no run has been evaluated")
        if len(side.finite) < len(side.by_seed):
            return _with(base, INCONCLUSIVE, _without_number(side, metric)[0])
    if any(len(side.finite) < 2 for side in sides):
        return _with(base, INCONCLUSIVE, "one seed decides nothing")
    if expect == "number":
        return _number(base, published, scale)
    if other is None:
        raise ValueError(f"a check that expects {expect!r} compares with something: another group, or a value")
    difference, interval, how = _difference(found, other.finite if isinstance(other, Values) else other)
    middle = other if isinstance(other, float | int) else statistics.fmean(other.finite.values())
    base = Judged(
        NOT_RUN, "", mean, spread, base.seeds, middle, difference, interval, notes=notes
    )  # fmt: skip
    return _same(base, margin, how) if expect == "same" else _direction(base, _sign(expect, metric), how)


def _with(judged: Judged, verdict: str, reason: str) -> Judged:
    return Judged(
        verdict, reason, judged.ours, judged.deviation, judged.seeds, judged.other, judged.difference, judged.interval,
        judged.notes,
    )  # fmt: skip


def _without_number(side: Values, metric: str) -> list[str]:
    missing = sorted(set(side.by_seed) - set(side.finite))
    return [f"no value of {metric} for seed {', '.join(map(str, missing))}"] if missing else []


def _number(base: Judged, published: Published | None, scale: str) -> Judged:
    if published is None:
        raise ValueError("a check that expects a number needs the published one")
    if scale != FULL:
        return _with(
            base, INCONCLUSIVE, f"published numbers are compared at full scale only, this is {scale or 'not said'}"
        )
    allowed = 2 * max(value for value in (published.deviation, base.deviation) if not math.isnan(value))
    distance = abs(base.ours - published.mean)
    verdict = REPRODUCED if distance <= allowed else NOT_REPRODUCED
    return _with(base, verdict, f"{distance:.4g} from the published number, {allowed:.4g} allowed")


def _sign(expect: str, metric: str) -> int:
    """+1 where the claim is that the difference is positive."""
    if expect in ("higher", "lower"):
        return 1 if expect == "higher" else -1
    higher = metric_of(metric).higher_is_better
    if higher is None:
        raise ValueError(f"{metric} is neither better nor worse: expect 'higher' or 'lower'")
    return 1 if higher == (expect == "better") else -1


def _direction(base: Judged, sign: int, how: str) -> Judged:
    low, high = sorted(sign * end for end in base.interval)
    verdict = REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE
    said = {REPRODUCED: "as claimed", NOT_REPRODUCED: "the other way round", INCONCLUSIVE: "the interval holds 0"}
    return _with(base, verdict, f"{said[verdict]} ({how})")


def _same(base: Judged, margin: float | None, how: str) -> Judged:
    if margin is None or not margin > 0:
        raise ValueError("a check that expects 'same' needs a margin above 0")
    low, high = base.interval
    if -margin <= low and high <= margin:
        return _with(base, REPRODUCED, f"the same within {margin:g} ({how})")
    if low > margin or high < -margin:
        return _with(base, NOT_REPRODUCED, f"they differ by more than {margin:g} ({how})")
    return _with(base, INCONCLUSIVE, f"the interval reaches beyond {margin:g} ({how})")


def _difference(
    ours: Mapping[int, float], other: Mapping[int, float] | float
) -> tuple[float, tuple[float, float], str]:
    """Mean of ours less the other, its interval, and by which test."""
    from scipy import stats

    values = [ours[seed] for seed in sorted(ours)]
    if not isinstance(other, Mapping) or set(other) == set(ours):
        others = [other[seed] for seed in sorted(other)] if isinstance(other, Mapping) else [float(other)] * len(values)
        differences = [a - b for a, b in zip(values, others, strict=True)]
        middle = statistics.fmean(differences)
        how = f"{'paired t-test' if isinstance(other, Mapping) else 't-test'}, {len(values)} seeds"
        if max(differences) - min(differences) < TINY:  # without any spread the test has no interval
            return middle, (middle, middle), how
        interval = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    else:
        others = list(other.values())
        middle = statistics.fmean(values) - statistics.fmean(others)
        how = f"Welch's test, {len(values)} and {len(others)} seeds"
        if len(set(values)) == len(set(others)) == 1:
            return middle, (middle, middle), how
        interval = stats.ttest_ind(values, others, equal_var=False).confidence_interval(CONFIDENCE)
    return middle, (float(interval.low), float(interval.high)), how


def conclude(deciding: Sequence[Judged]) -> str:
    """The verdict on a claim from its checks that decide."""
    verdicts = {judged.verdict for judged in deciding}
    if verdicts <= {NOT_RUN}:
        return NOT_RUN
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if verdicts == {REPRODUCED} else INCONCLUSIVE
