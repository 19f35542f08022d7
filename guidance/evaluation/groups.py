"""Accuracy group by group, such as each bird on each background: the worst, and their means."""

from __future__ import annotations

import math

from guidance.evaluation.classification import correct
from guidance.evaluation.rows import Rows
from guidance.evaluation.statistics import mean


def group_accuracy(rows: Rows) -> dict[str, float]:
    """{"accuracy_group/<name>": accuracy of the samples of that group, NaN if it is empty}, in order of the names."""
    return {
        f"accuracy_group/{name}": value for name, value in zip(rows.settings.group_names, _by_group(rows), strict=True)
    }


def worst_group_accuracy(rows: Rows) -> float:
    """Smallest accuracy among the groups that have samples; NaN if none has."""
    return min(_non_empty(rows), default=math.nan)


def fixed_group_accuracy(rows: Rows) -> float:
    """Accuracy of the one group that is called the worst beforehand, whichever turns out to be; NaN without one.

    "Worst" of Rao et al. 2023 (Table 1) and of its reproduction study (Table 2) is that of the waterbirds on land, also where
    backgrounds are told apart, where another group may be worse. `worst_group_accuracy` is the minimum (Sagawa et al. 2020).
    """
    chosen = rows.settings.fixed_group
    return math.nan if chosen is None else _by_group(rows)[chosen]


def worst_group_images(rows: Rows) -> float:
    """How many samples the worst group has, the smallest of equally bad ones: how far `worst_group_accuracy` can be trusted.

    NaN without groups that have samples.
    """
    counts = [int((rows.groups == group).sum()) for group in range(len(rows.settings.group_names))]
    found = [(value, count) for value, count in zip(_by_group(rows), counts, strict=True) if count]
    return float(min(found)[1]) if found else math.nan


def mean_group_accuracy(rows: Rows) -> float:
    """Mean of the accuracies of the groups that have samples; NaN if none has."""
    return mean(_non_empty(rows))


def adjusted_accuracy(rows: Rows) -> float:
    """Mean of the group accuracies weighted by the share of each group in the training split (Sagawa et al. 2020).

    NaN without training counts, and if a group that occurs in training has no sample here.
    """
    total = sum(rows.settings.training_groups)
    pairs = [(n, a) for n, a in zip(rows.settings.training_groups, _by_group(rows), strict=False) if n > 0]
    return math.fsum(n * a for n, a in pairs) / total if total else math.nan


def _by_group(rows: Rows) -> list[float]:
    right = correct(rows)
    return [mean(right[rows.groups == group].tolist()) for group in range(len(rows.settings.group_names))]


def _non_empty(rows: Rows) -> list[float]:
    return [value for value in _by_group(rows) if not math.isnan(value)]
