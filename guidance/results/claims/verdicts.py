"""Verdicts from the values of each seed. Nothing is read here, and nothing but the values decides.

The rules, for one check:

- Without a result of a group that the check needs, and where no seed has a value of the metric (NaN), it is *not run*. One seed
  without a value, beside others that have one, makes it *inconclusive*: leaving out what fails would favour what fails. A seed
  without a result is named, and the others decide.
- With one seed on either side it is *inconclusive*: a claim is never reproduced, or refuted, by one seed.
- Directions ("better", "worse" by the metric's own direction; "higher", "lower" as numbers): the 95 % interval of the mean
  difference, by a paired t-test where both sides have the same seeds, else by Welch's. Above 0 as claimed: *reproduced*;
  below: *not reproduced*; 0 inside: *inconclusive*.
- "same": the interval lies within the margin: *reproduced*; it does not meet it: *not reproduced*; else *inconclusive*.
  "not_worse": the same with the margin on the worse side alone.
- "number": our mean is at most the margin away from the published one, and its own 95 % interval reaches no further than the
  margin to either side: *reproduced*; that interval does not meet the margin: *not reproduced*; else *inconclusive*, so that
  runs that scatter reproduce nothing. The margin is twice the published standard deviation, or that of the check where none is
  printed. Only of an experiment of the scale "full": at another, *inconclusive*.

A claim is *reproduced* where all checks that decide are, *not reproduced* where one is not, *not run* where none was run, and
else *inconclusive*.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from guidance.evaluation.metrics import metric_of
from guidance.evaluation.statistics import Spread

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN)
EXPECTATIONS = ("better", "worse", "higher", "lower", "same", "not_worse", "number")
MARGINAL = ("same", "not_worse")  # they need a margin
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

    @property
    def mean(self) -> float:
        """Over the seeds that have a number; NaN without any."""
        found = self.finite.values()
        return statistics.fmean(found) if found else math.nan


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

    `other`: the values that ours are compared with, or a constant; `margin` of "same" and "not_worse", and of a "number"
    without a printed deviation; `published` of "number". Raises ValueError for an expectation that is unknown, or that lacks
    what it needs.
    """
    if expect not in EXPECTATIONS:
        raise ValueError(f"a check cannot expect {expect!r}; it can expect {', '.join(EXPECTATIONS)}")
    sides = [ours, *([other] if isinstance(other, Values) else [])]
    found = ours.finite
    numbers = list(found.values())
    middle = other.mean if isinstance(other, Values) else math.nan if other is None else float(other)
    base = Judged(
        NOT_RUN, "", ours.mean, Spread.over(numbers).deviation, tuple(sorted(found)), middle,
        notes=tuple(note for side in sides for note in side.notes),
    )  # fmt: skip
    for side in sides:
        if not side.finite:
            without = f"no seed has a value of {metric}" if side.by_seed else ""
            return replace(base, reason="; ".join(filter(None, (*side.notes, without))) or "no run has been evaluated")
    base = replace(base, verdict=INCONCLUSIVE)
    for side in sides:
        missing = [str(seed) for seed in sorted(side.by_seed) if seed not in side.finite]
        if missing:
            return replace(base, reason=f"no value of {metric} for seed {', '.join(missing)}")
    if any(len(side.finite) < 2 for side in sides):
        return replace(base, reason="one seed decides nothing")
    if expect == "number":
        return _number(base, numbers, published, margin, scale)
    if other is None:
        raise ValueError(f"a check that expects {expect!r} compares with something: another group, or a value")
    difference, interval, how = _difference(found, other.finite if isinstance(other, Values) else middle)
    base = replace(base, difference=difference, interval=interval)
    if expect in MARGINAL:
        return _marginal(base, margin, 0 if expect == "same" else _sign("better", metric), how)
    return _direction(base, _sign(expect, metric), how)


def _number(
    base: Judged, numbers: Sequence[float], published: Published | None, margin: float | None, scale: str
) -> Judged:
    allowed = margin if margin is not None else 2 * published.deviation if published is not None else math.nan
    if published is None or not allowed > 0:
        raise ValueError(
            "a check that expects a number needs the published one, with its standard deviation or a margin"
        )
    _, (low, high), _ = _difference(dict(enumerate(numbers)), published.mean)
    base = replace(base, other=published.mean, difference=base.ours - published.mean, interval=(low, high))
    if scale != FULL:
        reason = f"published numbers are compared at full scale only, this is {scale or 'not said'}"
        return replace(base, verdict=INCONCLUSIVE, reason=reason)
    near, sharp = abs(base.difference) <= allowed, (high - low) / 2 <= allowed
    apart = low > allowed or high < -allowed
    verdict = NOT_REPRODUCED if apart else REPRODUCED if near and sharp else INCONCLUSIVE
    reason = f"{abs(base.difference):.4g} from the published number, {allowed:.4g} allowed"
    return replace(
        base, verdict=verdict, reason=reason + ("" if sharp else f"; known to {(high - low) / 2:.4g} (95 %) only")
    )


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
    return replace(base, verdict=verdict, reason=f"{said[verdict]} ({how})")


def _marginal(base: Judged, margin: float | None, sign: int, how: str) -> Judged:
    """`sign`: 0 for a margin to both sides; else +1 where larger is better, -1 where smaller is."""
    if margin is None or not margin > 0:
        raise ValueError("a check that expects 'same' or 'not_worse' needs a margin above 0")
    low, high = sorted((sign or 1) * end for end in base.interval)
    if -margin <= low and (high <= margin or sign):
        said = f"not worse by more than {margin:g}" if sign else f"the same within {margin:g}"
        return replace(base, verdict=REPRODUCED, reason=f"{said} ({how})")
    if high < -margin or (low > margin and not sign):
        said = "worse" if sign else "they differ"
        return replace(base, verdict=NOT_REPRODUCED, reason=f"{said} by more than {margin:g} ({how})")
    return replace(base, verdict=INCONCLUSIVE, reason=f"the interval reaches beyond {margin:g} ({how})")


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
        if _width(differences) < TINY:  # without any spread the interval is a point, of which scipy warns
            return middle, (middle, middle), how
        interval = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    else:
        others = list(other.values())
        middle = statistics.fmean(values) - statistics.fmean(others)
        how = f"Welch's test, {len(values)} and {len(others)} seeds"
        if max(_width(values), _width(others)) < TINY:
            return middle, (middle, middle), how
        interval = stats.ttest_ind(values, others, equal_var=False).confidence_interval(CONFIDENCE)
    return middle, (float(interval.low), float(interval.high)), how


def _width(values: Sequence[float]) -> float:
    return max(values) - min(values)


def conclude(deciding: Sequence[Judged]) -> str:
    """The verdict on a claim from its checks that decide."""
    verdicts = {judged.verdict for judged in deciding}
    if verdicts <= {NOT_RUN}:
        return NOT_RUN
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if verdicts == {REPRODUCED} else INCONCLUSIVE
