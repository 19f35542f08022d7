"""How far numbers can be trusted: correlations with p-values, paired tests of two nets, intervals of accuracies; from scipy.

Nothing that trains or infers imports this module: scipy is loaded where a command reports such numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from guidance.evaluation.classification import correct
from guidance.evaluation.rows import Rows
from guidance.evaluation.size_bias import normalized_epg
from guidance.evaluation.statistics import mean, pearson

CONFIDENCE = 0.95  # of every interval
EXACT_BELOW = 25  # pairs that differ: with fewer, McNemar's test is the exact one
RESAMPLES = 2000  # of a bootstrap


class Interval(NamedTuple):
    """Of the confidence `CONFIDENCE`; both NaN where the values decide none."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


class Correlation(NamedTuple):
    """Pearson's r, the probability of one as far from 0 between unrelated normal values, and its interval (Fisher)."""

    r: float  # in [-1, 1]
    p: float
    low: float
    high: float
    pairs: int


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's correlation of paired values; all NaN for fewer than two pairs, or where one side is constant.

    Raises ValueError where the values are no pairs.
    """
    r = pearson(x, y)
    if math.isnan(r):
        return Correlation(r, math.nan, *NO_INTERVAL, len(x))
    found = stats.pearsonr(x, y)
    interval = found.confidence_interval(CONFIDENCE)
    return Correlation(r, float(found.pvalue), float(interval.low), float(interval.high), len(x))


def size_correlations(rows: Rows) -> dict[str, Correlation]:
    """The metrics `epg_size_correlation` and `normalized_epg_size_correlation` with p-value and interval.

    Reproducibility study of Rao et al., Sec. 4.2: r = 0.8209 and 0.1680, p < 0.001 for both. As there, each (image, class) is
    one pair, although those of one image are not independent: the true p is larger, and the true interval wider.
    """
    located = rows.located
    sizes = rows.pixels[located].tolist()
    scores = {"epg_size_correlation": rows.epg, "normalized_epg_size_correlation": normalized_epg(rows)}
    return {name: correlation(sizes, values[located].tolist()) for name, values in scores.items()}


class Share(NamedTuple):
    """How many of `total` are right, with Wilson's interval."""

    right: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """In [0, 1]; NaN of none."""
        return self.right / self.total if self.total else math.nan


def share(right: int, total: int) -> Share:
    """`right` of `total` with Wilson's score interval, which holds near 0 and 1 too (Wilson 1927); NaN of none."""
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no share")
    if total == 0:
        return Share(right, total, *NO_INTERVAL)
    interval = stats.binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return Share(right, total, float(interval.low), float(interval.high))


def accuracy_intervals(rows: Rows) -> dict[str, Share]:
    """ "accuracy" and "accuracy_group/<name>" of each group, under the names of the metrics; empty with several labels."""
    if not rows.settings.single_label:
        return {}
    right = correct(rows)
    found = {"accuracy": share(int(right.sum()), len(right))}
    for number, name in enumerate(rows.settings.group_names):
        inside = right[rows.groups == number]
        found[f"accuracy_group/{name}"] = share(int(inside.sum()), len(inside))
    return found


class PairedTests(NamedTuple):
    """Differences (second less first) of one score on the same images."""

    images: int
    difference: float  # mean
    t_interval: Interval  # of the mean difference, from the t distribution
    bootstrap: Interval  # the same, percentiles over `RESAMPLES` resamples of the images
    t: float  # paired t-test, two-sided, `images` - 1 degrees of freedom
    t_p: float
    wilcoxon: float  # signed-rank test, two-sided: the smaller sum of ranks; zero differences are left out
    wilcoxon_p: float


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Of the mean: percentiles over `RESAMPLES` resamples of independent values; NaN where all are the same."""
    if len(set(values)) < 2:
        return NO_INTERVAL
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, batch=50, confidence_level=CONFIDENCE, method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(float(found.low), float(found.high))


def paired_tests(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTests:
    """Compare two nets image by image; NaN where the values decide nothing (one image, or all differences the same).

    The values of different images must be independent: of several classes of an image, hand in their mean.
    Raises ValueError for none, and where they are no pairs.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"paired tests need one value of both nets for each image, but got {len(first)} and {len(second)}"
        )
    differences = np.subtract(second, first)
    middle = mean(differences.tolist())
    if len(set(differences.tolist())) == 1:
        return PairedTests(len(first), middle, NO_INTERVAL, NO_INTERVAL, *[math.nan] * 4)
    t_test = stats.ttest_rel(second, first)
    t_interval = t_test.confidence_interval(CONFIDENCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few images, which the p-value says
        signed = stats.wilcoxon(differences)
    return PairedTests(
        len(first), middle, Interval(float(t_interval.low), float(t_interval.high)),
        mean_interval(differences.tolist(), seed=seed),
        float(t_test.statistic), float(t_test.pvalue), float(signed.statistic), float(signed.pvalue),
    )  # fmt: skip


class McNemar(NamedTuple):
    """Whether two nets are right equally often, from the images on which one is right and the other wrong."""

    first_only: int  # images on which only the first net is right
    second_only: int
    statistic: float  # chi-square with continuity correction; NaN for the exact test, which has none
    p: float  # two-sided; 1 where no image tells them apart
    exact: bool


def mcnemar(first_only: int, second_only: int) -> McNemar:
    """McNemar's test: exact (binomial) where fewer than `EXACT_BELOW` images tell the nets apart, else chi-square with
    Edwards' continuity correction, (|b - c| - 1)^2 / (b + c).

    Table 8 of the reproducibility study prints "chi-square = 19.0" of 99 changes, of which 80 % (80) went one way. That is the
    smaller count, which the exact test of a common library returns as its statistic; the chi-square is 36.4.
    """
    total = first_only + second_only
    if total < EXACT_BELOW:
        p = float(stats.binomtest(first_only, total).pvalue) if total else 1.0
        return McNemar(first_only, second_only, math.nan, p, True)
    statistic = max(abs(first_only - second_only) - 1, 0) ** 2 / total
    return McNemar(first_only, second_only, statistic, float(stats.chi2.sf(statistic, 1)), False)
