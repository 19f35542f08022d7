"""The IoU threshold: fitted, given, missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from guidance.evaluation.localization import fit_iou_threshold
from guidance.evaluation.metrics import METRICS, summarize
from guidance.evaluation.rows import RowSettings, merge
from guidance.evaluation.scores import IOU_THRESHOLDS
from guidance.evaluation.tables import Scoring, collect
from tests.support.rows import random_batch


def test_the_iou_threshold_is_fitted_and_the_lowest_of_equals() -> None:
    rows = merge([collect(*random_batch(4))], RowSettings())
    scores = torch.zeros_like(rows.iou)
    scores[:, 3] = 0.4
    scores[:, 7] = 0.4
    scores[0, 9] = 1.0 if len(scores) < 2 else 0.3
    assert fit_iou_threshold(replace(rows, iou=scores)) == IOU_THRESHOLDS[3]
    assert fit_iou_threshold(replace(rows, iou=torch.zeros_like(scores))) == IOU_THRESHOLDS[0]


def test_the_fitted_threshold_has_the_best_mean() -> None:
    rows = merge([collect(*random_batch(8))], RowSettings())
    best = fit_iou_threshold(rows)
    scores = {t: summarize(rows, iou_threshold=t)["iou"] for t in rows.settings.thresholds}
    assert scores[best] == max(scores.values())
    assert summarize(rows)["iou"] == scores[0.5]


def test_a_threshold_that_was_not_computed_is_named() -> None:
    thresholds = (0.25, 0.5)
    rows = merge([collect(*random_batch(3), scoring=Scoring(thresholds))], RowSettings(thresholds))
    with pytest.raises(ValueError, match=r"0\.3.*0\.25, 0\.5"):
        summarize(rows, iou_threshold=0.3)


def test_without_pairs_the_threshold_stays() -> None:
    batch, logits, _ = random_batch(3)
    rows = merge([collect(batch, logits)], RowSettings(iou_threshold=0.25))
    assert fit_iou_threshold(rows) == 0.25


def test_the_published_threshold_is_among_the_candidates_in_ascending_order() -> None:
    assert 0.5 in IOU_THRESHOLDS
    assert list(IOU_THRESHOLDS) == sorted(set(IOU_THRESHOLDS))
    assert len(METRICS) == len(set(METRICS))
