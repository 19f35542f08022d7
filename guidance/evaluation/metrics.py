"""The metrics of a whole split, as rows: how each is computed, which way it is better, what it needs.

Sums are exact in float64 (rounded once), so a metric does not depend on the order of the rows, on the number of
processes or on the number of threads. To add a metric, write a function of `Rows` and a row in METRICS; a new score of a
map also needs a column in `Rows`. Selecting, plotting, checks of settings and messages read the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from guidance.evaluation.classification import accuracy, f1, mean_average_precision, precision, recall
from guidance.evaluation.groups import (
    adjusted_accuracy,
    fixed_group_accuracy,
    group_accuracy,
    mean_group_accuracy,
    worst_group_accuracy,
    worst_group_images,
)
from guidance.evaluation.localization import mean_score, merged_sparsity, sparsity, stage_sparsity, zero_maps
from guidance.evaluation.rows import Rows
from guidance.evaluation.scores import ALL_SCORES
from guidance.evaluation.size_bias import normalized_epg, size_correlation

UNBOUNDED = (0.0, math.inf)


@dataclass(frozen=True)
class Metric:
    """How a number of a split is computed, and what everything that selects by it or shows it must know.

    `higher_is_better` None: it describes the split, or the net, and is neither better nor worse. `needs`: "groups", a "fixed
    group" among them, or "segmentations" of the data set; "regions", images with one of the evaluated kind; "box", that kind;
    "all scores", which an evaluation computes where it is asked to. `range`: the smallest and the largest value that it can
    have.
    """

    function: Callable[[Rows], float]
    label: str = ""  # in pictures; its name where empty
    higher_is_better: bool | None = True
    needs: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)
    refusal: str = ""  # why nothing can be selected by it, although it has a direction


def _beside(rows: Rows) -> float:
    """Of what is reported beside the rows, and cannot be computed from them."""
    return math.nan


GROUPED: tuple[str, ...] = ("groups",)
LOCATED: tuple[str, ...] = ("regions",)

# fmt: off
METRICS: dict[str, Metric] = {
    "f1": Metric(f1, "F1"),
    "precision": Metric(precision),
    "recall": Metric(recall),
    "map": Metric(mean_average_precision, "mAP"),
    "accuracy": Metric(accuracy),
    "worst_group_accuracy": Metric(worst_group_accuracy, "worst-group accuracy", needs=GROUPED),
    "fixed_group_accuracy": Metric(
        fixed_group_accuracy, "fixed-group accuracy", needs=("groups", "fixed group")
    ),
    "worst_group_images": Metric(worst_group_images, higher_is_better=None, needs=GROUPED, range=UNBOUNDED),
    "mean_group_accuracy": Metric(mean_group_accuracy, needs=GROUPED),
    "adjusted_accuracy": Metric(adjusted_accuracy, needs=GROUPED),
    "epg": Metric(partial(mean_score, "epg"), "EPG", needs=LOCATED),
    "epg_chance": Metric(partial(mean_score, "area"), higher_is_better=None, needs=LOCATED),  # the EPG of a uniform map
    "normalized_epg": Metric(partial(mean_score, "normalized_epg"), needs=LOCATED),
    "epg_size_correlation": Metric(
        lambda rows: size_correlation(rows, rows.epg), higher_is_better=None, needs=LOCATED, range=(-1.0, 1.0)
    ),
    "normalized_epg_size_correlation": Metric(
        lambda rows: size_correlation(rows, normalized_epg(rows)), higher_is_better=None, needs=LOCATED,
        range=(-1.0, 1.0),
    ),
    "zero_maps": Metric(zero_maps, higher_is_better=False),
    "iou": Metric(partial(mean_score, "iou"), "IoU", needs=LOCATED),
    "seg_epg": Metric(partial(mean_score, "seg_epg"), "SegEPG", needs=("regions", "segmentations", "box")),
    "x_seg_epg": Metric(partial(mean_score, "x_seg_epg"), "X-SegEPG", needs=("segmentations",)),
    "never_energy": Metric(partial(mean_score, "never_energy"), higher_is_better=False),
    "sparsity": Metric(sparsity, higher_is_better=False),
    "sparsity_merged": Metric(merged_sparsity, higher_is_better=False),
} | {name: Metric(partial(mean_score, name), needs=("regions", "all scores")) for name in ALL_SCORES}

LOSS = Metric(_beside, higher_is_better=False, range=UNBOUNDED, refusal=(
    "is a loss, which has no upper limit and another scale in each run, so it cannot select; use a metric such as f1, map, "
    "accuracy, epg or iou"
))
# What an evaluation reports beside METRICS, by name ...
REPORTED: dict[str, Metric] = {
    "classification": LOSS,
    "localization": LOSS,
    "iou_threshold": Metric(_beside, higher_is_better=None),
    "skipped": Metric(_beside, higher_is_better=None, range=UNBOUNDED),
    "dropped": Metric(_beside, higher_is_better=None, range=UNBOUNDED),
    "clipped": Metric(_beside, higher_is_better=None, range=UNBOUNDED),
}
# ... and by what stands before the "/" of a name, such as "accuracy_group/<group>" or "sparsity/<stage>".
FAMILIES: dict[str, Metric] = {
    "accuracy_group": Metric(_beside, needs=GROUPED),
    "accuracy_class": Metric(_beside),
    "f1_class": Metric(_beside),
    "ap_class": Metric(_beside),
    "sparsity": Metric(_beside, higher_is_better=False),
}
# fmt: on


def is_known(name: str) -> bool:
    """Whether a row says what a metric, or another number of an evaluation, is."""
    return name in METRICS or name in REPORTED or name.partition("/")[0] in FAMILIES


def metric_of(name: str) -> Metric:
    """What is known of a metric, or of another number of an evaluation; of a name that is unknown, that it is better higher.

    The row has a label.
    """
    family, slash, _ = name.partition("/")
    row = METRICS.get(name) or REPORTED.get(name) or (FAMILIES.get(family) if slash else None) or Metric(_beside)
    return row if row.label else replace(row, label=name)


def oriented(name: str, value: float) -> float:
    """`value` so that larger is better: what is better lower is mirrored in its range, or, where that has no end, negated.

    ValueError for a loss, and for what says nothing about how good a net is.
    """
    row = metric_of(name)
    if row.refusal:
        raise ValueError(f"{name} {row.refusal}")
    if row.higher_is_better is None:
        raise ValueError(f"{name} says nothing about how good a net is, so it cannot select; use another metric")
    if row.higher_is_better:
        return value
    low, high = row.range
    return low + high - value if math.isfinite(low) and math.isfinite(high) else -value


def bounded(metrics: Iterable[str]) -> tuple[str, ...]:
    """The metrics that can count for a hypervolume: those whose range has ends."""
    return tuple(name for name in metrics if all(map(math.isfinite, metric_of(name).range)))


def worst(metrics: Iterable[str]) -> list[float]:
    """The worst value of each of the metrics, turned so that larger is better (`oriented`)."""
    return [metric_of(name).range[0] for name in metrics]


def summarize(rows: Rows, *, iou_threshold: float | None = None) -> dict[str, float]:
    """Every metric of METRICS, every group's accuracy, every stage's sparsity; NaN where there is nothing to compute from.

    Those that need all scores only where the rows hold them: an evaluation computes them where it is asked to.
    `iou_threshold` replaces the one that the rows use; it must be one of their thresholds.
    """
    if iou_threshold is not None:
        rows = rows.at(iou_threshold)
    asked = set(ALL_SCORES) <= set(rows.more)
    found = {name: row.function(rows) for name, row in METRICS.items() if asked or "all scores" not in row.needs}
    return found | group_accuracy(rows) | stage_sparsity(rows)
