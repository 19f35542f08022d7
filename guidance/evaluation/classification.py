"""How well a net classifies a split: over all its samples, and class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.evaluation.rows import Rows
from guidance.evaluation.statistics import mean


def f1(rows: Rows) -> float:
    """Micro F1 over all image x class decisions; NaN if nothing is positive and nothing predicted.

    The papers on guidance say F1; that it is the micro average, at logit 0, is how the published code reads it.
    """
    hits, predicted, positive = _counts(rows)
    return _ratio(2 * hits, predicted + positive)


def precision(rows: Rows) -> float:
    """Share of the predicted classes that are right; 0 if none is predicted, NaN if moreover none is positive."""
    hits, predicted, positive = _counts(rows)
    return _ratio(hits, predicted or min(positive, 1))


def recall(rows: Rows) -> float:
    """Share of the positive classes that are predicted; NaN if there is none."""
    hits, _, positive = _counts(rows)
    return _ratio(hits, positive)


def mean_average_precision(rows: Rows) -> float:
    """Mean over classes of average precision: sum over scores of (gain in recall) x precision.

    Classes without a positive sample are left out; NaN if all are. Samples are ranked by the logit of the class, or
    by its softmax probability where the decision is the largest logit, because such a net fixes logits up to a
    constant per sample.
    """
    values = [_average_precision(s, t) for s, t in zip(_ranked(rows).T, rows.targets.T, strict=True) if t.any()]
    return mean(values)


def accuracy(rows: Rows) -> float:
    """Single label: share of samples whose largest logit is the positive class. Else: share of right class decisions.

    NaN without samples. Ties go to the first class.
    """
    return mean(correct(rows).tolist())


def per_class(rows: Rows, names: Sequence[str]) -> dict[str, float]:
    """For each class with a positive sample: {"ap_class/<name>": average precision} (see `mean_average_precision`).

    And, with a single label, {"accuracy_class/<name>": share of its samples that are right}; else {"f1_class/<name>"}.
    """
    scores, decided = _ranked(rows), rows.decisions()
    shown = [k for k in range(len(names)) if bool(rows.targets[:, k].any())]
    found: dict[str, float] = {}
    for k in shown:
        positive, predicted = rows.targets[:, k], decided[:, k]
        if rows.settings.single_label:
            found[f"accuracy_class/{names[k]}"] = mean(correct(rows)[positive].tolist())
        else:
            hits = int((positive & predicted).sum())
            found[f"f1_class/{names[k]}"] = _ratio(2 * hits, int(positive.sum()) + int(predicted.sum()))
    return found | {f"ap_class/{names[k]}": _average_precision(scores[:, k], rows.targets[:, k]) for k in shown}


def correct(rows: Rows) -> Tensor:
    """How far the decisions for each sample are right [N] float64 in [0, 1], as `accuracy` counts them."""
    if rows.settings.single_label:
        return rows.targets.gather(1, rows.logits.argmax(1, keepdim=True))[:, 0].double()
    return (rows.decisions() == rows.targets).double().mean(1)


def _ranked(rows: Rows) -> Tensor:
    """What samples are ranked by, class by class [N, K]."""
    return rows.logits.log_softmax(1) if rows.settings.decision == "argmax" else rows.logits


def _counts(rows: Rows) -> tuple[int, int, int]:
    predicted = rows.decisions()
    return int((predicted & rows.targets).sum()), int(predicted.sum()), int(rows.targets.sum())


def _average_precision(scores: Tensor, positive: Tensor) -> float:
    order = scores.argsort(descending=True)
    ranked = scores[order]
    ends = torch.cat([ranked[1:] != ranked[:-1], ranked.new_ones(1, dtype=torch.bool)]).nonzero()[:, 0]
    hits = positive[order].cumsum(0)[ends].double()
    gained = hits.diff(prepend=hits.new_zeros(1))
    return math.fsum((gained * hits / (ends + 1)).tolist()) / float(hits[-1])


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
