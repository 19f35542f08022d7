"""What an evaluation collects: one row for each sample and one for each explained (image, class) pair.

Metrics are computed from the rows of the whole split on every process, never from sums of processes. Rows carry the
identity of their sample, so that the result cannot depend on which process saw which sample, and a threshold can be
fitted afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from guidance.evaluation.scores import epg, has_energy, iou, seg_epg, x_seg_epg
from guidance.maps import merged_mask, upsample
from guidance.regions import BOX, NEVER
from guidance.types import Batch

# Maps at the input have isolated peaks, so the best threshold may be far below those of a smooth map.
IOU_THRESHOLDS: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.04, *(i / 20 for i in range(1, 20)))

_SAMPLES = ("index", "logits", "targets", "groups", "active")
_REGIONS = (
    "region_index", "region_target", "kind", "area", "pixels", "energy", "epg", "iou", "seg_epg", "x_seg_epg",
    "has_segment", "never_energy", "has_never",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Tables of N samples and R pairs, on the CPU; `guidance.evaluation.scores` defines the scores."""

    index: Tensor  # [N] long: identity of the sample
    logits: Tensor  # [N, K] float64
    targets: Tensor  # [N, K] bool
    groups: Tensor  # [N] long, -1 for a sample without a group
    active: Tensor  # [N, S] float64: share of active cells in the mask of each of `stages`
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
    thresholds: tuple[float, ...] = IOU_THRESHOLDS  # T thresholds of the normalised map
    iou_threshold: float = 0.5  # the one that the metric "iou" uses
    single_label: bool = False  # every sample has exactly one positive class
    decision: str = "threshold"  # "threshold": logit >= 0, class by class; "argmax": the largest logit
    group_names: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()  # S masks of a net that masks its features, the last one "merged"; else none
    training_groups: tuple[int, ...] = ()  # samples of each group in the training split, for the adjusted accuracy

    def __post_init__(self) -> None:
        if self.decision not in ("threshold", "argmax"):
            raise ValueError(f"decision must be 'threshold' or 'argmax', not {self.decision!r}")
        if self.training_groups and len(self.training_groups) != len(self.group_names):
            raise ValueError(
                f"training_groups has {len(self.training_groups)} counts for {len(self.group_names)} group names"
            )

    def decisions(self) -> Tensor:
        """Predicted classes [N, K] bool, as `decision` says; ties of the largest logit go to the first class."""
        if self.decision == "threshold":
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
        """IoU at `iou_threshold` [R]; ValueError if it is not one of the thresholds."""
        for column, threshold in enumerate(self.thresholds):
            if abs(threshold - self.iou_threshold) < 1e-9:
                return self.iou[:, column]
        known = ", ".join(f"{t:g}" for t in self.thresholds)
        raise ValueError(f"IoU was not computed at the threshold {self.iou_threshold:g}, only at {known}")


def collect(
    batch: Batch,
    logits: Tensor,
    attribution: Tensor | None = None,
    masks: Mapping[str, Tensor] = MappingProxyType({}),
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    iou_threshold: float = 0.5,
    single_label: bool = False,
    decision: str = "threshold",
    group_names: Sequence[str] = (),
    training_groups: Sequence[int] = (),
    more: Callable[[Tensor, Tensor], Mapping[str, Tensor]] | None = None,
    localization: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Rows:
    """Rows of one batch, on the CPU. `logits` [B, K]; `attribution` [M, h, w] raw, of every pair, or None for no maps;
    `masks`: stage -> [B, 1, h, w] in {0, 1}.

    Segmentation scores are 0 for a pair whose segment is empty, and all of them where the batch has no segments.
    `more`: further scores from upsampled maps and masks [M, H, W], such as `scores.all_scores`. `localization`: a
    loss of raw maps and masks, which becomes the score "localization".
    """
    regions = batch.regions
    pairs = 0 if attribution is None else len(regions.image)
    mask, image, target = regions.mask[:pairs], regions.image[:pairs], regions.target[:pairs]
    size = (mask.shape[1], mask.shape[2])
    raw = mask.new_zeros(mask.shape, dtype=torch.float32) if attribution is None else attribution.detach()
    maps = upsample(raw, size)
    none = mask.new_zeros(pairs)
    segment, never = (None if x is None else x[:pairs] for x in (regions.segment, regions.never))
    if masks:
        masks = {**masks, "merged": merged_mask(masks)}
    shares = [mask.detach().flatten(1).double().mean(1) for mask in masks.values()]
    tables = {
        "index": batch.index,
        "logits": logits.detach().double(),
        "targets": batch.targets > 0.5,
        "groups": batch.groups,
        "active": torch.stack(shares, 1) if shares else batch.index.new_zeros((len(batch.index), 0)).double(),
        "region_index": batch.index[image],
        "region_target": target,
        "kind": none.long() if regions.kind is None else regions.kind[:pairs],
        "area": mask.sum((1, 2)).double() / (size[0] * size[1]),
        "pixels": mask.sum((1, 2)).double(),
        "energy": has_energy(maps),
        "epg": epg(maps, mask).double(),
        "iou": iou(maps, mask, thresholds).double(),
        "seg_epg": none.double() if segment is None else seg_epg(maps, mask, segment).double(),
        "x_seg_epg": none.double() if segment is None else x_seg_epg(maps, segment).double(),
        "has_segment": none if segment is None else segment.flatten(1).any(1),
        "never_energy": none.double() if never is None else epg(maps, never).double(),
        "has_never": none if never is None else never.flatten(1).any(1),
    }
    extra = {} if more is None else {name: score.double().cpu() for name, score in more(maps, mask).items()}
    if localization is not None:
        extra["localization"] = localization(raw, mask).detach().double().cpu()
    return Rows(
        **{name: value.cpu() for name, value in tables.items()}, more=extra, thresholds=tuple(thresholds),
        iou_threshold=iou_threshold, single_label=single_label, decision=decision, group_names=tuple(group_names),
        stages=tuple(masks), training_groups=tuple(training_groups),
    )  # fmt: skip


def merge(parts: Sequence[Rows]) -> Rows:
    """The rows of batches or processes as one table, sorted by (sample, class): the same for every way of splitting.

    Raises ValueError for no parts, for parts whose settings differ, and for a sample or pair that occurs twice,
    because a mean over them would count it twice.
    """
    if not parts:
        raise ValueError("there are no rows to merge: the evaluated split is empty on every process")
    settings = [f.name for f in fields(Rows) if f.name not in (*_SAMPLES, *_REGIONS, "more")]
    for name in settings:
        values = {getattr(part, name) for part in parts}
        if len(values) > 1:
            raise ValueError(f"rows with different {name} cannot be merged: {sorted(map(str, values))}")
    if len({frozenset(part.more) for part in parts}) > 1:
        raise ValueError("rows with different further scores cannot be merged")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in _SAMPLES + _REGIONS}
    by_sample = joined["index"].argsort(stable=True)
    by_class = joined["region_target"].argsort(stable=True)
    by_pair = by_class[joined["region_index"][by_class].argsort(stable=True)]
    orders = dict.fromkeys(_SAMPLES, by_sample) | dict.fromkeys(_REGIONS, by_pair)
    more = {name: torch.cat([part.more[name] for part in parts])[by_pair] for name in parts[0].more}
    tables: dict[str, Any] = {name: joined[name][order] for name, order in orders.items()}
    rows = replace(parts[0], **tables, more=more)
    _check_unique(rows)
    return rows


def _check_unique(rows: Rows) -> None:
    twice = (rows.index[1:] == rows.index[:-1]).nonzero()
    if len(twice):
        raise ValueError(f"sample {int(rows.index[twice[0]])} was evaluated twice; a sampler must not pad the split")
    i, t = rows.region_index, rows.region_target
    twice = ((i[1:] == i[:-1]) & (t[1:] == t[:-1])).nonzero()
    if len(twice):
        raise ValueError(f"class {int(t[twice[0]])} of sample {int(i[twice[0]])} was explained twice")
