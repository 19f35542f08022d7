"""Accuracies of groups: by hand, with empty groups, and how far the worst can be trusted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from guidance.evaluation.metrics import summarize
from guidance.evaluation.rows import Rows
from tests.support.rows import make_rows


def grouped(groups: list[int], correct: list[bool], **settings: Any) -> Rows:
    logits = [[1.0, 0.0] if c else [0.0, 1.0] for c in correct]
    names = ("land/land", "land/water", "water/land", "water/water")
    rows = make_rows(logits, [[1.0, 0.0]] * len(correct), single_label=True, group_names=names, **settings)
    return replace(rows, groups=torch.tensor(groups))


def test_group_accuracies_by_hand() -> None:
    rows = grouped([0, 0, 0, 0, 1, 1, 2, 3], [True, True, True, False, True, False, True, True],
                   training_groups=(60, 20, 5, 15))  # fmt: skip
    metrics = summarize(rows)
    assert metrics["accuracy_group/land/land"] == 0.75
    assert metrics["accuracy_group/land/water"] == 0.5
    assert metrics["worst_group_accuracy"] == 0.5
    assert metrics["accuracy"] == 6 / 8
    assert metrics["mean_group_accuracy"] == pytest.approx((0.75 + 0.5 + 1 + 1) / 4)
    assert metrics["adjusted_accuracy"] == pytest.approx(0.6 * 0.75 + 0.2 * 0.5 + 0.05 + 0.15)


def test_empty_groups_and_samples_without_a_group() -> None:
    rows = grouped([0, 0, 3, -1], [True, False, True, False], training_groups=(3, 0, 0, 1))
    metrics = summarize(rows)
    assert math.isnan(metrics["accuracy_group/land/water"])
    assert metrics["worst_group_accuracy"] == 0.5
    assert metrics["mean_group_accuracy"] == 0.75
    assert metrics["adjusted_accuracy"] == pytest.approx(0.75 * 0.5 + 0.25)
    # Also where the first group is the empty one: NaN is no minimum.
    assert summarize(grouped([1, 1, 3], [True, False, True]))["worst_group_accuracy"] == 0.5
    missing = summarize(replace(rows, settings=replace(rows.settings, training_groups=(3, 1, 0, 1))))
    assert math.isnan(missing["adjusted_accuracy"])


def test_the_worst_group_and_how_many_samples_it_has() -> None:
    """Group 0 is empty and comes first; 1 and 3 are equally bad, and the smaller counts."""
    logits = [[1, 0]] * 7
    targets = [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1]]
    groups = torch.tensor([1, 1, 2, 3, 3, 3, 3])
    rows = make_rows(
        logits, targets, groups=groups, group_names=("a", "b", "c", "d"), single_label=True, decision="argmax"
    )
    metrics = summarize(rows)
    assert (metrics["worst_group_accuracy"], metrics["worst_group_images"]) == (0.5, 2.0)
    assert metrics["mean_group_accuracy"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert math.isnan(metrics["accuracy_group/a"])
    assert math.isnan(summarize(make_rows(logits, targets))["worst_group_images"])


def test_the_fixed_group_is_not_always_the_worst() -> None:
    """As in the task that tells backgrounds apart: the group that is called the worst is 0.75, another 0.5."""
    rows = grouped([0, 1, 1, 2, 2, 2, 2, 3], [True, True, False, True, True, True, False, True], fixed_group=2)
    metrics = summarize(rows)
    assert (metrics["fixed_group_accuracy"], metrics["worst_group_accuracy"]) == (0.75, 0.5)
    assert metrics["fixed_group_accuracy"] == metrics["accuracy_group/water/land"]
    assert math.isnan(summarize(grouped([0, 1], [True, True]))["fixed_group_accuracy"])
    assert math.isnan(summarize(grouped([0, 1], [True, True], fixed_group=2))["fixed_group_accuracy"])  # filtered


def test_without_groups_their_metrics_are_undefined() -> None:
    metrics = summarize(make_rows([[2.0, -1.0], [-0.5, 3.0]], [[1.0, 0.0], [1.0, 1.0]]))
    for name in ("worst_group_accuracy", "mean_group_accuracy", "adjusted_accuracy"):
        assert math.isnan(metrics[name])
    assert not [name for name in metrics if name.startswith("accuracy_group")]
