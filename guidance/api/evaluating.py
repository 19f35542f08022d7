"""All metrics of a net on data of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from guidance import distributed
from guidance.api.nets import Use, check_classes, num_classes, use_of_net
from guidance.api.regions import Place, annotated_pairs, clipped, multi_hot, regions_of
from guidance.attribution import Method
from guidance.evaluation.classification import per_class
from guidance.evaluation.evaluate import score
from guidance.evaluation.localization import fit_iou_threshold
from guidance.evaluation.metrics import summarize
from guidance.evaluation.per_sample import Table, tabulate_as
from guidance.evaluation.rows import Rows, RowSettings, merge
from guidance.evaluation.scores import IOU_THRESHOLDS, all_scores
from guidance.evaluation.statistics import mean
from guidance.evaluation.tables import Scoring
from guidance.models.classifier import Classifier
from guidance.objectives import Classification
from guidance.types import Batch, Regions

# (image [C, H, W], target, mask) or a batch of them (images [B, C, H, W], targets, masks); a group may come as a fourth.
Item: TypeAlias = Sequence[Any]


@dataclass(frozen=True, eq=False)
class Evaluated(Mapping[str, float]):
    """The metrics of an evaluation, as a mapping, and the rows that they were computed from."""

    metrics: Mapping[str, float]
    rows: Rows = field(repr=False)
    classes: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def table(self) -> Table:
        """A row for each (image, class), as `launch/evaluate.py --per-sample` has them; an image is named by its position."""
        return tabulate_as(self.rows, str, self.classes, self.rows.settings.group_names)


def evaluate(
    model: Classifier,
    data: Iterable[Item],
    *,
    attribution: str | Method | None = None,
    depth: str | None = None,
    classification: Literal["bce", "cross_entropy"] = "bce",
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | Mapping[str, int] = (),
    iou_threshold: float | Literal["fit"] = 0.5,
) -> Evaluated:
    """Every metric of METRICS, of all classes and groups: what `launch/evaluate.py` reports of a split.

    `data`: (image, target, mask) one by one or in batches. Images are float tensors as the net takes them, [C, H, W], of a
    batch [B, C, H, W]. Targets are class indices, of a batch [B] long, or [K] with 1 for each class of the image, of a batch
    [B, K]. `mask`: None (not annotated), a segmentation [H, W] bool, boxes [n, 4] in pixels of the input, (boxes,
    segmentation), whose scores are those of the boxes, or {class index: one of these}; of a batch one for each image, or [B,
    H, W] bool, of which empty ones count as None. A fourth part is the position of the image's group in `groups`, -1 for
    none.

    `attribution` and `depth`: as in `explain`. `classification`: with which loss the net was trained; "cross_entropy" decides
    for the largest logit, "bce" class by class. `groups`: names, or {name: number of training images} for the adjusted
    accuracy. `iou_threshold`: a number in [0, 1), or "fit", the best on these data; fit it on validation data and give the
    found "iou_threshold" to the evaluation of others. With several processes each gives its share, and all get the same
    numbers: a collective call, in which no image may come twice. Raises ValueError for no data, and for what `GuidedLoss`
    refuses.
    """
    use = use_of_net(model, attribution, depth, classes)
    thresholds = IOU_THRESHOLDS if iou_threshold == "fit" else (float(iou_threshold),)
    items = iter(data)
    first = next(items, None)
    if first is None:
        raise ValueError("there are no data to evaluate on; an iterator that has been used up gives none")
    single = _batched(first)[1].dim() == 1
    batches = _batches(use, chain([first], items), single, len(groups))
    tables, missing = score(
        model, batches, attribution=use.method, depth=use.depth, scoring=Scoring(thresholds, all_scores)
    )
    rows = merge(tables, RowSettings(
        thresholds=thresholds, iou_threshold=0.5 if iou_threshold == "fit" else float(iou_threshold), single_label=single,
        decision="argmax" if classification == "cross_entropy" else "threshold", group_names=tuple(groups),
        training_groups=tuple(groups.values()) if isinstance(groups, Mapping) else (),
    ))  # fmt: skip
    if iou_threshold == "fit":
        rows = rows.at(fit_iou_threshold(rows))
    names = check_classes(use.classes, rows.logits.shape[1])
    losses = Classification(classification).per_image(rows.logits, rows.targets.double(), None)
    beside = {"classification": mean(losses.tolist()), "iou_threshold": rows.settings.iou_threshold}
    return Evaluated(summarize(rows) | beside | missing | per_class(rows, names), rows, names)


def _batches(use: Use, data: Iterable[Item], single: bool, groups: int) -> Iterator[Batch]:
    """The data as batches on the device of the net; positions are counted over all processes."""
    device = next(use.model.parameters()).device
    start, number = 0, 0
    for item in data:
        images, targets, places, group = _batched(item)
        if (targets.dim() == 1) != single:
            raise ValueError("targets are class indices for all images, or rows [K] for all")
        size = (images.shape[2], images.shape[3])
        if start == 0:
            number = num_classes(use.model, images.to(device))
            check_classes(use.classes, number)
        regions, sticking_out = _regions(targets, places, *size)
        if bool((group >= groups).any()):
            raise ValueError(f"group {int(group.max())} is not one of the {groups} names that groups has")
        position = torch.arange(start, start + len(images)) * distributed.world_size() + distributed.rank()
        batch = Batch(images, multi_hot(targets, number), regions, group, position, clipped=sticking_out)
        yield batch.to(device)
        start += len(images)


def _batched(item: Item) -> tuple[Tensor, Tensor, Sequence[Any], Tensor]:
    """Images [B, C, H, W], targets [B] or [B, K], a place for each image, groups [B]."""
    image = item[0]
    if not 2 <= len(item) <= 4 or not isinstance(image, Tensor) or image.dim() not in (3, 4):
        raise ValueError(
            "data are (image, target, mask), or with a group as (image, target, mask, group), where the image is a tensor "
            "[C, H, W], or [B, C, H, W] in a batch"
        )
    targets, places = torch.as_tensor(item[1]), item[2] if len(item) > 2 else None
    groups = None if len(item) < 4 else torch.as_tensor(item[3])
    if image.dim() == 3:
        image, targets, places, groups = image[None], targets[None], [places], None if groups is None else groups[None]
    number = len(image)
    return (
        image,
        targets,
        [None] * number if places is None else list(places),
        (torch.full((number,), -1) if groups is None else groups),
    )


def _regions(targets: Tensor, places: Sequence[Any], height: int, width: int) -> tuple[Regions, int]:
    """The regions of a batch: boxes, with the segmentation where there is one, or it alone; how many boxes stick out."""
    boxes, masks = ([_of_kind(place, masks=kind) for place in places] for kind in (False, True))
    boxed = {pair[:2]: pair for pair in annotated_pairs(targets, boxes)}
    shown = {pair[:2]: pair for pair in annotated_pairs(targets, None, masks)}
    segments = dict(zip(shown, regions_of(list(shown.values()), height, width).mask, strict=True))
    pairs = [boxed.get(key, shown.get(key)) for key in sorted({**boxed, **shown})]
    regions = regions_of([pair for pair in pairs if pair is not None], height, width)
    none = torch.zeros(height, width, dtype=torch.bool)
    keys = zip(regions.image.tolist(), regions.target.tolist(), strict=True)
    segment = torch.stack([segments.get(key, none) for key in keys]) if len(regions.image) else regions.mask
    return regions._replace(segment=segment), clipped(list(boxed.values()), height, width)


def _of_kind(place: Any, *, masks: bool) -> Place:
    """What of a place are masks, or boxes; their type tells them apart."""
    if isinstance(place, Mapping):
        chosen = {target: _of_kind(x, masks=masks) for target, x in place.items()}
        return {target: x for target, x in chosen.items() if isinstance(x, Tensor)}
    for x in place if isinstance(place, tuple | list) else (place,):
        if x is not None and (x.dtype == torch.bool) == masks:
            return x  # type: ignore[no-any-return]
    return None
