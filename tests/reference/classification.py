"""Slow versions of the metrics of a split, whose logits and targets are [N][K] lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.reference.maps import Map


def decisions(logits: Map, decision: str) -> list[list[bool]]:
    if decision == "threshold":
        return [[v >= 0 for v in row] for row in logits]
    return [[k == row.index(max(row)) for k in range(len(row))] for row in logits]


def micro(logits: Map, targets: Map, decision: str) -> dict[str, float]:
    predicted = decisions(logits, decision)
    tp = fp = fn = 0
    for row, truth in zip(predicted, targets, strict=True):
        for p, t in zip(row, truth, strict=True):
            tp += p and t > 0
            fp += p and not t > 0
            fn += (not p) and t > 0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan
    precision = tp / (tp + fp) if tp + fp else (0.0 if fn else math.nan)
    return {"f1": f1, "precision": precision, "recall": tp / (tp + fn) if tp + fn else math.nan}


def average_precision(scores: Sequence[float], targets: Sequence[float]) -> float:
    """Sum over the distinct scores, from the highest, of (gain in recall) x precision of "at least this score"."""
    total, recall, result = sum(targets), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, targets, strict=True) if s >= threshold]
        result += (sum(chosen) / total - recall) * sum(chosen) / len(chosen)
        recall = sum(chosen) / total
    return result


def mean_average_precision(logits: Map, targets: Map, decision: str) -> float:
    if decision == "argmax":
        logits = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits]
    values = [
        average_precision([row[k] for row in logits], [row[k] for row in targets])
        for k in range(len(targets[0])) if sum(row[k] for row in targets)
    ]  # fmt: skip
    return sum(values) / len(values) if values else math.nan


def correct(logits: Map, targets: Map, decision: str, single_label: bool) -> list[float]:
    if single_label:
        return [float(truth[row.index(max(row))] > 0) for row, truth in zip(logits, targets, strict=True)]
    predicted = decisions(logits, decision)
    return [
        sum(p == (t > 0) for p, t in zip(row, truth, strict=True)) / len(row)
        for row, truth in zip(predicted, targets, strict=True)
    ]
