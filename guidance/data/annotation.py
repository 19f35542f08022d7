"""Where the evidence for each class of an image may lie: read in the frame of its file, resolved after the transform."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor

from guidance.data.reading.decode import UnreadableError, check_boxes
from guidance.data.source import Record, Source
from guidance.data.transforms.views import View
from guidance.regions import BOX, NEVER, SEGMENT, complement, dilate_boxes, not_empty, paint_boxes

# (record, height and width of its image) -> {class: [H, W] bool}, of those of its classes that have one; see `read_segments`
ReadSegments = Callable[[Record, int, int], Mapping[int, Tensor]]


class Regime(NamedTuple):
    """What the mask of a class is made of; of its segmentation, where both are known."""

    boxes: bool
    segments: bool


REGIMES: Mapping[str, Regime] = {
    "box": Regime(boxes=True, segments=False),
    "segment": Regime(boxes=False, segments=True),
    "best": Regime(boxes=True, segments=True),
}


@dataclass(frozen=True)
class RegionOptions:
    """Which regions a data set gives to its images. Raises ValueError for an impossible `dilation`.

    `region`: the regime. "box": classes with boxes; "segment": classes whose segmentation is not empty; "best": both, by
    their segmentation where they have one. Classes with `never_boxes` are annotated under each. `dilation` grows the boxes
    in the frame of the file (see `dilate_boxes`), not segmentations or never boxes; so a crop moves them like any other.
    `never_alone`: keep the classes that only know where evidence must not lie, see `resolve`. `load_segments`: deliver
    segmentations beside the masks, also under "box", for metrics. `classes_per_image`: "one" (drawn uniformly among the
    annotated classes that still have a region after the transform) or "all". `cached`: reads segmentations where they are
    cached, as squares of the size of the cached images (`SegmentCache.read`); None decodes their files.
    """

    region: str = "box"
    dilation: float = 0.0
    never_alone: bool = True
    load_segments: bool = False
    classes_per_image: str = "all"
    cached: ReadSegments | None = None

    def __post_init__(self) -> None:
        if not self.dilation >= 0:
            raise ValueError(f"dilation is a fraction of the box side and must be at least 0; got {self.dilation}")

    @property
    def regime(self) -> Regime:
        return REGIMES[self.region]


class Annotation(NamedTuple):
    """The annotated classes of one image, k of them, in the frame of its file.

    Tensors only where a transform moves them: small ones take most of the time of a sample that comes from a cache.
    """

    classes: Sequence[int]  # k, ascending
    kinds: Sequence[int]  # k: BOX, SEGMENT or NEVER
    boxes: Tensor  # [n, 4] float32
    box_rows: Sequence[int]  # n: row of `classes`
    forbidden: Sequence[bool]  # n: evidence must not lie in this box
    segments: Tensor  # [s, H, W] uint8; those that are cached as squares, see `RegionOptions.cached`
    segment_rows: Sequence[int]  # s: row of `classes`
    skipped: int  # faulty boxes and segmentations that were left out
    clipped: int = 0  # boxes that stuck out of the image


class Pairs(NamedTuple):
    """The (image, class) pairs of one image that have a region in the network input, m of them."""

    classes: Tensor  # [m] long, ascending
    kinds: Tensor  # [m] long
    masks: Tensor  # [m, H, W] bool
    segments: Tensor  # [m, H, W] bool, all False for a class without
    never: Tensor  # [m, H, W] bool, all False for a class without
    dropped: int  # annotated classes that the transform left without a region


def check_regime(region: str, source: Source) -> None:
    """Raise ValueError for an unknown annotation regime, and for one that `source` cannot serve."""
    if region not in REGIMES:
        raise ValueError(f"region is one of {', '.join(REGIMES)}; got {region!r}")
    if not REGIMES[region].boxes and source.read_segments is None:
        raise ValueError(f"dataset {source.name!r} has no segmentations here, so region {region!r} is empty; use 'box'")


def is_annotated(record: Record, region: str) -> bool:
    """Whether `record` has a region under the regime: a box, a segmentation, or a place where evidence must not lie."""
    regime = REGIMES[region]
    boxes = regime.boxes and bool(record.boxes)
    segments = regime.segments and record.segmentation is not None
    return boxes or segments or bool(record.never_boxes)


def only_never(records: Collection[Record], region: str) -> int:
    """How many (image, class) pairs know where evidence must not lie, but not where it may."""
    count, regime = 0, REGIMES[region]
    for record in records:
        allowed = set(record.box_classes) if regime.boxes else set()
        if regime.segments and record.segmentation is not None:
            allowed |= set(record.classes)
        count += len(set(record.never_classes) - allowed)
    return count


def annotate(
    source: Source,
    record: Record,
    height: int,
    width: int,
    options: RegionOptions,
    *,
    on_error: str = "raise",
) -> Annotation:
    """What is known about an image whose file is `height` x `width` pixels."""
    regime, dilation = options.regime, options.dilation
    allowed = record if regime.boxes else record._replace(boxes=(), box_classes=())
    forbidding = record._replace(boxes=record.never_boxes, box_classes=record.never_classes)
    found, never = (check_boxes(r, height, width, on_error) for r in (allowed, forbidding))
    every = found.boxes + never.boxes
    boxes = torch.tensor(every, dtype=torch.float32) if every else torch.zeros(0, 4)
    if dilation > 0:
        boxes[: len(found.boxes)] = dilate_boxes(boxes[: len(found.boxes)], dilation, height, width)
    kinds = dict.fromkeys(never.classes, NEVER) | dict.fromkeys(found.classes, BOX)
    faulty = found.skipped + never.skipped
    segments: dict[int, Tensor] = {}
    if regime.segments or (options.load_segments and kinds):
        try:
            segments = dict((options.cached or partial(read_segments, source))(record, height, width))
        except UnreadableError:
            if on_error == "raise":
                raise
            faulty += 1
    if regime.segments:
        kinds |= dict.fromkeys(segments, SEGMENT)
    row = {index: position for position, index in enumerate(sorted(kinds))}
    shown = [index for index in row if index in segments]
    return Annotation(
        classes=list(row),
        kinds=[kinds[index] for index in row],
        boxes=boxes,
        box_rows=[row[index] for index in found.classes + never.classes],
        forbidden=[False] * len(found.boxes) + [True] * len(never.boxes),
        segments=torch.stack([segments[k] for k in shown]).view(torch.uint8) if shown else _no_segments(height, width),
        segment_rows=[row[index] for index in shown],
        skipped=faulty,
        clipped=found.clipped + never.clipped,
    )


def unannotated(height: int, width: int) -> Annotation:
    """The annotation of an image without any region."""
    return Annotation((), (), torch.zeros(0, 4), (), (), _no_segments(height, width), (), skipped=0)


def resolve(view: View, annotation: Annotation, *, invert: bool = False, never_alone: bool = True) -> Pairs:
    """The masks of the annotated classes in a transformed `view`.

    The mask of a class is its boxes or its segmentation, by its kind, less the places where evidence must not lie; for a
    class that knows only those, everything outside them. A class of whose segmentation no pixel is left goes back to its
    boxes, if it has some. `invert`: evidence belongs outside boxes and segmentations (`Source.complement`). A class whose
    mask is empty, or of whose only region, a never box, nothing is left, is dropped and counted; without `never_alone`, so
    are all classes of the kind NEVER.
    """
    height, width = view["image"].shape[-2:]
    count, rows, forbidden = len(annotation.classes), annotation.box_rows, annotation.forbidden
    classes, kinds = torch.tensor((annotation.classes, annotation.kinds), dtype=torch.long)
    # No values of their own where there are none, which are copied with the sample.
    segments = never = torch.zeros((), dtype=torch.bool).expand(count, height, width)
    boxes = view["boxes"].as_subclass(Tensor)
    allowed = paint_boxes(boxes, rows, count, height, width)  # with never boxes, which are taken out again below
    # What most images do not have is left out: it would cost a loader as much as the boxes do.
    restricted = any(forbidden)
    if restricted:
        chosen = list(compress(rows, forbidden))
        never = paint_boxes(boxes[list(forbidden)], chosen, count, height, width)
    if "segments" in view:
        segments = _in_rows(view["segments"].as_subclass(Tensor) > 0, annotation.segment_rows, segments)
    if invert:
        allowed = complement(allowed)
        segments = segments.clone()
        segments[list(annotation.segment_rows)] = complement(segments[list(annotation.segment_rows)])
    elif rows and SEGMENT in annotation.kinds:
        # A small object may fall between the cells of its segmentation, while its box always covers a pixel.
        boxed = torch.zeros(count, dtype=torch.bool)
        boxed[[row for row, never_here in zip(rows, forbidden, strict=True) if not never_here]] = True
        kinds = torch.where((kinds == SEGMENT) & boxed & ~not_empty(segments), BOX, kinds)
    masks = _chosen(kinds, allowed, segments)
    if restricted:
        masks, segments = masks & ~never, segments & ~never
    left = not_empty(masks) & ((kinds != NEVER) | (not_empty(never) & never_alone)) if restricted else not_empty(masks)
    dropped, parts = count - int(left.sum()), (classes, kinds, masks, segments, never)
    if dropped:
        parts = (classes[left], kinds[left], masks[left], segments[left], never[left])
    return Pairs(*parts, dropped=dropped)


def _in_rows(found: Tensor, rows: Sequence[int], empty: Tensor) -> Tensor:
    """`found` [s, H, W] in their rows of as many as `empty` [k, H, W] has."""
    return found if len(found) == len(empty) else empty.index_copy(0, torch.tensor(rows, dtype=torch.long), found)


def _chosen(kinds: Tensor, allowed: Tensor, segments: Tensor) -> Tensor:
    """Of each class its boxes, its segmentation or everything [k, H, W], by its kind."""
    found = set(kinds.tolist())
    if len(found) <= 1 and NEVER not in found:
        return segments if SEGMENT in found else allowed
    return torch.where((kinds == SEGMENT)[:, None, None], segments, allowed) | (kinds == NEVER)[:, None, None]


def read_segments(source: Source, record: Record, height: int, width: int) -> dict[int, Tensor]:
    """The segmentations {class: [H, W] bool} of the image's classes that are not empty.

    UnreadableError where they cannot be read, or have another size than the image, `height` x `width` pixels.
    """
    found = {} if source.read_segments is None else source.read_segments(record)
    for mask in found.values():
        if mask.shape != (height, width):
            raise UnreadableError(
                f"segmentation {record.segmentation} is {tuple(mask.shape)} (height, width), but its image "
                f"{record.path} is {(height, width)}; both must have the same size"
            )
    return {index: mask for index, mask in found.items() if index in record.classes and bool(mask.any())}


def _no_segments(height: int, width: int) -> Tensor:
    return torch.zeros((0, height, width), dtype=torch.uint8)
