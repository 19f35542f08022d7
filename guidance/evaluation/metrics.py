"""The metrics of a whole split, computed from its rows.

Sums are exact in float64 (rounded once), so a metric does not depend on the order of the rows, on the number of
processes or on the number of threads. The scores of single maps, and the rows that are made of them, are re-exported
here. To add a metric, write a function of `Rows` and a row in METRICS; a new score of a map also needs a column in
`Rows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from guidance.evaluation.rows import IOU_THRESHOLDS, Rows, collect, merge
from guidance.evaluation.scores import (
    ALL_SCORES,
    all_scores,
    epg,
    has_energy,
    iou,
    pixel_scores,
    region_attribution,
    seg_epg,
    x_seg_epg,
)
from guidance.evaluation.size_bias import mean, normalized_epg, size_correlation
from guidance.maps import upsample

__all__ = [
    "ALL_SCORES",
    "IOU_THRESHOLDS",
    "LOWER_IS_BETTER",
    "METRICS",
    "NO_DIRECTION",
    "Rows",
    "all_scores",
    "collect",
    "epg",
    "fit_iou_threshold",
    "group_accuracy",
    "has_energy",
    "iou",
    "mean",
    "merge",
    "oriented",
    "per_class",
    "pixel_scores",
    "region_attribution",
    "seg_epg",
    "summarize",
    "upsample",
    "x_seg_epg",
]  # fmt: skip


def f1(rows: Rows) -> float:
    """Micro F1 over all image x class decisions, as published; NaN if nothing is positive and nothing predicted."""
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
    return mean(_correct(rows).tolist())


def group_accuracy(rows: Rows) -> dict[str, float]:
    """{"accuracy_group/<name>": accuracy of the samples of that group, NaN if it is empty}, in order of the names."""
    return {f"accuracy_group/{name}": value for name, value in zip(rows.group_names, _by_group(rows), strict=True)}


def worst_group_accuracy(rows: Rows) -> float:
    """Smallest accuracy among the groups that have samples; NaN if none has."""
    return min(_non_empty(rows), default=math.nan)


def worst_group_images(rows: Rows) -> float:
    """How many samples the worst group has, the smallest of equally bad ones: how far `worst_group_accuracy` can be trusted.

    NaN without groups that have samples.
    """
    counts = [int((rows.groups == group).sum()) for group in range(len(rows.group_names))]
    found = [(value, count) for value, count in zip(_by_group(rows), counts, strict=True) if count]
    return float(min(found)[1]) if found else math.nan


def mean_group_accuracy(rows: Rows) -> float:
    """Mean of the accuracies of the groups that have samples; NaN if none has."""
    return mean(_non_empty(rows))


def adjusted_accuracy(rows: Rows) -> float:
    """Mean of the group accuracies weighted by the share of each group in the training split (Sagawa et al. 2020).

    NaN without training counts, and if a group that occurs in training has no sample here.
    """
    total = sum(rows.training_groups)
    pairs = [(n, a) for n, a in zip(rows.training_groups, _by_group(rows), strict=False) if n > 0]
    return math.fsum(n * a for n, a in pairs) / total if total else math.nan


def sparsity(rows: Rows) -> float:
    """Share of active cells, as a mean over samples and stages: lower is sparser (AIM, Table 15, in percent there).

    The paper does not say over which masks; `sparsity_merged` is that of the merged ones. NaN for a net without masks.
    """
    return mean(rows.active[:, :-1].flatten().tolist())


def stage_sparsity(rows: Rows) -> dict[str, float]:
    """{"sparsity/<stage>": share of active cells of that stage's masks}, in order of the stages."""
    return {f"sparsity/{stage}": mean(rows.active[:, i].tolist()) for i, stage in enumerate(rows.stages[:-1])}


def _mean_located(rows: Rows, scores: Tensor) -> float:
    return mean(scores[rows.located].tolist())


def _mean_of_more(name: str, rows: Rows) -> float:
    return _mean_located(rows, rows.more[name]) if name in rows.more else math.nan


METRICS: dict[str, Callable[[Rows], float]] = (
    {
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "map": mean_average_precision,
        "accuracy": accuracy,
        "worst_group_accuracy": worst_group_accuracy,
        "worst_group_images": worst_group_images,
        "mean_group_accuracy": mean_group_accuracy,
        "adjusted_accuracy": adjusted_accuracy,
        "epg": lambda rows: _mean_located(rows, rows.epg),
        "epg_chance": lambda rows: _mean_located(rows, rows.area),  # the EPG of a uniform map
        "normalized_epg": lambda rows: _mean_located(rows, normalized_epg(rows)),
        "epg_size_correlation": lambda rows: size_correlation(rows, rows.epg),
        "normalized_epg_size_correlation": lambda rows: size_correlation(rows, normalized_epg(rows)),
        "zero_maps": lambda rows: mean((~rows.energy).double().tolist()),
        "iou": lambda rows: _mean_located(rows, rows.iou_column()),
        "seg_epg": lambda rows: mean(rows.seg_epg[rows.has_seg_epg].tolist()),
        "x_seg_epg": lambda rows: mean(rows.x_seg_epg[rows.has_segment].tolist()),
        "never_energy": lambda rows: mean(rows.never_energy[rows.has_never].tolist()),
        "sparsity": sparsity,
        "sparsity_merged": lambda rows: mean(rows.active[:, -1:].flatten().tolist()),
    }
    | {name: partial(_mean_of_more, name) for name in ALL_SCORES}
)


# All other metrics are the better the larger they are. What is the better the smaller it is lies in [0, 1].
LOWER_IS_BETTER = frozenset(("zero_maps", "never_energy", "sparsity", "sparsity_merged"))
# These describe a split, or a net, and are neither better nor worse.
NO_DIRECTION = frozenset(
    (
        "worst_group_images", "epg_chance", "epg_size_correlation", "normalized_epg_size_correlation",
        "iou_threshold", "skipped", "dropped", "clipped",
    )
)  # fmt: skip
# What validation logs of the losses; without an upper limit, and of another scale for each loss.
LOSSES = frozenset(("classification", "localization"))


def oriented(metric: str, value: float) -> float:
    """`value` so that larger is better; ValueError for a loss, and for what says nothing about how good a net is."""
    if metric in LOSSES:
        raise ValueError(
            f"{metric} is a loss, which has no upper limit and another scale in each run, so it cannot select; use a metric "
            "such as f1, map, accuracy, epg or iou"
        )
    if metric in NO_DIRECTION:
        raise ValueError(f"{metric} says nothing about how good a net is, so it cannot select; use another metric")
    return 1.0 - value if metric in LOWER_IS_BETTER else value


def summarize(rows: Rows, *, iou_threshold: float | None = None) -> dict[str, float]:
    """Every metric of METRICS, every group's accuracy, every stage's sparsity; NaN where there is nothing to compute from.

    Of ALL_SCORES only those that the rows hold: an evaluation computes them where it is asked to. `iou_threshold`
    replaces the one stored in the rows; it must be one of their thresholds.
    """
    if iou_threshold is not None:
        rows = replace(rows, iou_threshold=iou_threshold)
    names = [name for name in METRICS if name not in ALL_SCORES or name in rows.more]
    return {name: METRICS[name](rows) for name in names} | group_accuracy(rows) | stage_sparsity(rows)


def per_class(rows: Rows, names: Sequence[str]) -> dict[str, float]:
    """For each class with a positive sample: {"ap_class/<name>": average precision} (see `mean_average_precision`).

    And, with a single label, {"accuracy_class/<name>": share of its samples that are right}; else {"f1_class/<name>"}.
    """
    scores, decided = _ranked(rows), rows.decisions()
    shown = [k for k in range(len(names)) if bool(rows.targets[:, k].any())]
    found: dict[str, float] = {}
    for k in shown:
        positive, predicted = rows.targets[:, k], decided[:, k]
        if rows.single_label:
            found[f"accuracy_class/{names[k]}"] = mean(_correct(rows)[positive].tolist())
        else:
            hits = int((positive & predicted).sum())
            found[f"f1_class/{names[k]}"] = _ratio(2 * hits, int(positive.sum()) + int(predicted.sum()))
    return found | {f"ap_class/{names[k]}": _average_precision(scores[:, k], rows.targets[:, k]) for k in shown}


def fit_iou_threshold(rows: Rows) -> float:
    """The threshold of the highest mean IoU, to be fitted on validation data (Rao et al. 2023, Sec. 3.3).

    The lowest of equals; the threshold that the rows already use if they have no pairs.
    """
    if not rows.located.any():
        return rows.iou_threshold
    scores = [mean(column) for column in rows.iou[rows.located].T.tolist()]
    return -max((score, -threshold) for score, threshold in zip(scores, rows.thresholds, strict=True))[1]


def _ranked(rows: Rows) -> Tensor:
    """What samples are ranked by, class by class [N, K]."""
    return rows.logits.log_softmax(1) if rows.decision == "argmax" else rows.logits


def _counts(rows: Rows) -> tuple[int, int, int]:
    predicted = rows.decisions()
    return int((predicted & rows.targets).sum()), int(predicted.sum()), int(rows.targets.sum())


def _correct(rows: Rows) -> Tensor:
    if rows.single_label:
        return rows.targets.gather(1, rows.logits.argmax(1, keepdim=True))[:, 0].double()
    return (rows.decisions() == rows.targets).double().mean(1)


def _by_group(rows: Rows) -> list[float]:
    correct = _correct(rows)
    return [mean(correct[rows.groups == group].tolist()) for group in range(len(rows.group_names))]


def _non_empty(rows: Rows) -> list[float]:
    return [value for value in _by_group(rows) if not math.isnan(value)]


def _average_precision(scores: Tensor, positive: Tensor) -> float:
    order = scores.argsort(descending=True)
    ranked = scores[order]
    ends = torch.cat([ranked[1:] != ranked[:-1], ranked.new_ones(1, dtype=torch.bool)]).nonzero()[:, 0]
    hits = positive[order].cumsum(0)[ends].double()
    gained = hits.diff(prepend=hits.new_zeros(1))
    return math.fsum((gained * hits / (ends + 1)).tolist()) / float(hits[-1])


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
