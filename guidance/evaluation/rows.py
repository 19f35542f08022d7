"""What an evaluation collects: one row for each sample and one for each explained (image, class) pair.

Metrics are computed from the rows of the whole split on every process, never from sums of processes. Rows carry the
identity of their sample, so that the result cannot depend on which process saw which sample, and a threshold can be
fitted afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from guidance.evaluation.scores import IOU_THRESHOLDS
from guidance.evaluation.tables import BatchTables
from guidance.regions import BOX, NEVER


@dataclass(frozen=True)
class RowSettings:
    """What is the same for all rows of a split, and decides what metrics make of them."""

    thresholds: tuple[float, ...] = IOU_THRESHOLDS  # T thresholds of the normalised map, at which IoU was computed
    iou_threshold: float = 0.5  # the one that the metric "iou" uses
    single_label: bool = False  # every sample has exactly one positive class
    decision: str = "threshold"  # "threshold": logit >= 0, class by class; "argmax": the largest logit
    group_names: tuple[str, ...] = ()
    training_groups: tuple[int, ...] = ()  # samples of each group in the training split, for the adjusted accuracy
    fixed_group: int | None = None  # the group that papers call the worst beforehand, whichever turns out to be

    def __post_init__(self) -> None:
        if self.decision not in ("threshold", "argmax"):
            raise ValueError(f"decision must be 'threshold' or 'argmax', not {self.decision!r}")
        if self.training_groups and len(self.training_groups) != len(self.group_names):
            raise ValueError(
                f"training_groups has {len(self.training_groups)} counts for {len(self.group_names)} group names"
            )


@dataclass(frozen=True)
class Rows:
    """Tables of N samples and R pairs, on the CPU; `guidance.evaluation.scores` defines the scores."""

    index: Tensor  # [N] long: identity of the sample
    logits: Tensor  # [N, K] float64
    targets: Tensor  # [N, K] bool
    groups: Tensor  # [N] long, -1 for a sample without a group
    region_index: Tensor  # [R] long: identity of the sample that the pair belongs to
    region_target: Tensor  # [R] long: class
    kind: Tensor  # [R] long: BOX, SEGMENT or NEVER of guidance.regions, where the mask comes from
    area: Tensor  # [R] float64: share of the pixels that the mask covers
    pixels: Tensor  # [R] float64: their number
    energy: Tensor  # [R] bool: whether the map has positive energy
    epg: Tensor  # [R] float64
    iou: Tensor  # [R, T] float64, one column for each threshold
    seg_epg: Tensor  # [R] float64, 0 where there is no segmentation
    x_seg_epg: Tensor  # [R] float64, 0 where there is no segmentation
    has_segment: Tensor  # [R] bool
    never_energy: Tensor  # [R] float64: share of the positive energy where evidence must not lie
    has_never: Tensor  # [R] bool: whether there are such places
    more: Mapping[str, Tensor] = field(default_factory=dict)  # scores that were asked for: name -> [R] float64
    # Share of active cells in the masks of each stage and, as the last, in the merged ones: name -> [N] float64; of a net
    # that masks its features, else empty.
    active: Mapping[str, Tensor] = field(default_factory=dict)
    settings: RowSettings = field(default_factory=RowSettings)

    def __post_init__(self) -> None:
        if self.iou.shape[1] != len(self.settings.thresholds):
            raise ValueError(
                f"IoU was computed at {self.iou.shape[1]} thresholds, but the settings name {len(self.settings.thresholds)}"
            )

    def at(self, iou_threshold: float) -> Rows:
        """The same rows, of which the metric "iou" uses another of their thresholds."""
        return replace(self, settings=replace(self.settings, iou_threshold=iou_threshold))

    def of_samples(self, wanted: Tensor) -> Rows:
        """The rows of those samples alone that are `wanted` [N] bool, and of their pairs."""
        pairs = torch.isin(self.region_index, self.index[wanted])
        samples = {name: getattr(self, name)[wanted] for name in ("index", "logits", "targets", "groups")}
        columns = {
            f.name: getattr(self, f.name)[pairs]
            for f in fields(self)
            if f.name not in (*samples, "more", "active", "settings")
        }
        return replace(
            self, **samples, **columns, more={name: column[pairs] for name, column in self.more.items()},
            active={name: column[wanted] for name, column in self.active.items()},
        )  # fmt: skip

    def decisions(self) -> Tensor:
        """Predicted classes [N, K] bool, as `settings.decision` says; ties of the largest logit go to the first class."""
        if self.settings.decision == "threshold":
            return self.logits >= 0
        return torch.zeros_like(self.targets).scatter(1, self.logits.argmax(1, keepdim=True), True)

    @property
    def located(self) -> Tensor:
        """Whether it is known where the evidence for a pair may lie [R] bool; only then do EPG and IoU count."""
        return self.kind != NEVER

    @property
    def has_seg_epg(self) -> Tensor:
        """Whether a pair has boxes and a segmentation [R] bool; of a segmentation as the mask, SegEPG is always 1."""
        return self.has_segment & (self.kind == BOX)

    def iou_column(self) -> Tensor:
        """IoU at `settings.iou_threshold` [R]; ValueError if it is not one of the thresholds."""
        for column, threshold in enumerate(self.settings.thresholds):
            if abs(threshold - self.settings.iou_threshold) < 1e-9:
                return self.iou[:, column]
        known = ", ".join(f"{t:g}" for t in self.settings.thresholds)
        raise ValueError(f"IoU was not computed at the threshold {self.settings.iou_threshold:g}, only at {known}")


def merge(tables: Sequence[BatchTables], settings: RowSettings) -> Rows:
    """The tables of batches, of all processes, as one, sorted by (sample, class): the same for every way of splitting.

    Raises ValueError for no tables, for tables that hold different columns, and for a sample or pair that occurs twice,
    because a mean over them would count it twice.
    """
    if not tables:
        raise ValueError("there are no rows to merge: the evaluated split is empty on every process")
    samples, pairs, more, active = (_joined(kind) for kind in zip(*tables, strict=True))
    by_sample = samples["index"].argsort(stable=True)
    by_class = pairs["region_target"].argsort(stable=True)
    by_pair = by_class[pairs["region_index"][by_class].argsort(stable=True)]
    rows = Rows(
        **_ordered(samples, by_sample), **_ordered(pairs, by_pair),
        more=_ordered(more, by_pair), active=_ordered(active, by_sample), settings=settings,
    )  # fmt: skip
    _check_unique(rows)
    return rows


def _joined(tables: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    different = {name for table in tables for name in table} - {
        name for name in tables[0] if all(name in t for t in tables)
    }
    if different:
        raise ValueError(
            f"tables cannot be merged where only some have a column; these: {', '.join(sorted(different))}"
        )
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}


def _ordered(table: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    return {name: column[order] for name, column in table.items()}


def _check_unique(rows: Rows) -> None:
    twice = (rows.index[1:] == rows.index[:-1]).nonzero()
    if len(twice):
        raise ValueError(f"sample {int(rows.index[twice[0]])} was evaluated twice; a sampler must not pad the split")
    i, t = rows.region_index, rows.region_target
    twice = ((i[1:] == i[:-1]) & (t[1:] == t[:-1])).nonzero()
    if len(twice):
        raise ValueError(f"class {int(t[twice[0]])} of sample {int(i[twice[0]])} was explained twice")
