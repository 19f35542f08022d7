"""What is known of where the evidence of each image may lie, as users have it, to the regions of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from guidance.regions import BOX, NEVER, ROUNDING, SEGMENT, box_problem, overhang, paint_boxes
from guidance.types import Regions

# Of one image: None (nothing is known), boxes [n, 4] (x0, y0, x1, y1 in pixels of the input, half-open) or a mask [H, W] bool
# of its only class, or {class index: boxes or mask}.
Place: TypeAlias = Tensor | Mapping[int, Tensor] | None


class Pair(NamedTuple):
    """An annotated (image, class) pair of a batch."""

    image: int  # row of the batch
    target: int
    # boxes [n, 4] or a mask [H, W] bool: where evidence may lie (None: anywhere else), and where it must not
    place: Tensor | None
    never: Tensor | None = None


def annotated_pairs(
    targets: Tensor,
    boxes: Sequence[Place] | None = None,
    masks: Sequence[Place] | Tensor | None = None,
    annotated: Tensor | None = None,
    never: Sequence[Place] | Tensor | None = None,
) -> list[Pair]:
    """The annotated pairs of a batch, ordered by (image, class).

    `targets` [B] long or [B, K]; `boxes` and `masks`: one entry for each image, or None for none at all. `annotated` [B]
    bool: the images whose `masks` count; without it, those whose mask is not empty. A class that has both keeps its mask, as
    under `data.region: best`; one with no boxes, or with an empty mask, counts as not annotated. `never`: boxes or masks in
    which evidence must not lie, in the same forms. Raises ValueError, which names the image, for entries of another form, a
    class that the image does not have, and an empty mask that is said to count.
    """
    given = {"boxes": _entries("boxes", boxes, targets), "masks": _entries("masks", masks, targets)}
    if annotated is not None:
        given["masks"] = _counted(given["masks"], annotated.tolist())
    allowed = _places(given, targets)
    forbidden = _places({"never regions": _entries("never", never, targets)}, targets)
    return [Pair(*key, allowed.get(key), forbidden.get(key)) for key in sorted(allowed.keys() | forbidden.keys())]


def _places(given: Mapping[str, Sequence[Place]], targets: Tensor) -> dict[tuple[int, int], Tensor]:
    """(image, class) -> what covers anything of the entries that are given; of several, the last."""
    labels: list[list[int]] = []
    found: dict[tuple[int, int], Tensor] = {}
    for what, entries in given.items():
        for image, entry in enumerate(entries):
            if entry is None or (isinstance(entry, Tensor) and not _covers(entry)):
                continue  # an image of several classes need not say of which one nothing is known
            labels = labels or _labels(targets)
            for target, place in _by_class(entry, labels[image], f"the {what} of image {image}"):
                _check(place, what, image)
                if _covers(place):
                    found[image, target] = place
    return found


def regions_of(pairs: Sequence[Pair], height: int, width: int) -> Regions:
    """The regions of annotated pairs in images of `height` x `width` pixels, on the CPU.

    Boxes that stick out are cut off. The mask of a pair is its place less its never region; everything else, where it has
    that alone. Raises ValueError, which names the image, for a box without area or outside of its image, for a mask of
    another size, and for a never region that leaves nothing.
    """
    masks, never = (torch.zeros((len(pairs), height, width), dtype=torch.bool) for _ in range(2))
    for row, pair in enumerate(pairs):
        if pair.never is not None:
            never[row] = _mask(pair.never, pair.image, height, width)
        masks[row] = ~never[row] if pair.place is None else _mask(pair.place, pair.image, height, width) & ~never[row]
        if pair.never is not None and not bool(masks[row].any()):
            raise ValueError(
                f"the never regions of image {pair.image} leave no place for the evidence of class {pair.target}; make them "
                "smaller, or leave them out"
            )
    return Regions(
        image=torch.tensor([pair.image for pair in pairs], dtype=torch.long),
        target=torch.tensor([pair.target for pair in pairs], dtype=torch.long),
        mask=masks,
        segment=None,
        rounds=most_of_one_image(pairs),
        kind=torch.tensor([_kind(pair) for pair in pairs], dtype=torch.long),
        never=never if any(pair.never is not None for pair in pairs) else None,
    )


def most_of_one_image(pairs: Sequence[Pair]) -> int:
    """The most pairs of one image."""
    return max(Counter(pair.image for pair in pairs).values(), default=0)


def clipped(pairs: Sequence[Pair], height: int, width: int) -> int:
    """How many boxes stick out of their images."""
    boxes = [box for pair in pairs if _kind(pair) == BOX and pair.place is not None for box in pair.place.tolist()]
    return sum(overhang(box, height, width) > ROUNDING for box in boxes)


def multi_hot(targets: Tensor, num_classes: int) -> Tensor:
    """Targets [B] long (class indices) or [B, K] as [B, K] float. Raises ValueError for others, and for an unknown class."""
    if targets.dim() == 2 and targets.shape[1] == num_classes:
        return targets if targets.is_floating_point() else targets.float()
    if targets.dim() != 1 or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(
            f"targets are class indices [B] long, or [B, {num_classes}] with 1 for each class of an image; got "
            f"{list(targets.shape)} of {targets.dtype}"
        )
    unknown = [k for k in targets.tolist() if not 0 <= k < num_classes]
    if unknown:
        raise ValueError(f"targets name the class {unknown[0]}, but the net has the classes 0 to {num_classes - 1}")
    return torch.zeros(len(targets), num_classes, device=targets.device).scatter_(1, targets[:, None].long(), 1.0)


def _entries(what: str, given: Sequence[Place] | Tensor | None, targets: Tensor) -> list[Place]:
    entries: list[Place] = [None] * len(targets) if given is None else list(given)
    if len(entries) != len(targets):
        raise ValueError(f"{what} has {len(entries)} entries for {len(targets)} images: give None for images without")
    return entries


def _counted(masks: Sequence[Place], annotated: Sequence[bool]) -> list[Place]:
    """The masks of the images that are `annotated`, none of which may be empty."""
    if len(annotated) != len(masks):
        raise ValueError(f"annotated has {len(annotated)} entries for {len(masks)} images")
    for image, (mask, counts) in enumerate(zip(masks, annotated, strict=True)):
        if counts and (mask is None or (isinstance(mask, Tensor) and not bool(mask.any()))):
            raise ValueError(
                f"image {image} is annotated, but its mask is empty: mark where its evidence may lie, or set annotated to False"
            )
    return [mask if counts else None for mask, counts in zip(masks, annotated, strict=True)]


def _labels(targets: Tensor) -> list[list[int]]:
    """The classes of each image."""
    if targets.dim() == 1:
        return [[int(k)] for k in targets.tolist()]
    return [[k for k, value in enumerate(row) if value > 0] for row in targets.tolist()]


def _by_class(entry: Tensor | Mapping[int, Tensor], labels: Sequence[int], what: str) -> Iterator[tuple[int, Tensor]]:
    if isinstance(entry, Tensor):
        if len(labels) != 1:
            raise ValueError(
                f"{what} do not say of which class they are, and it has {len(labels)}: give {{class index: tensor}}"
            )
        yield labels[0], entry
        return
    for target, place in entry.items():
        if target not in labels:
            raise ValueError(f"{what} are of class {target}, which is none of its targets ({labels})")
        yield target, place


def _check(place: Tensor, what: str, image: int) -> None:
    """Raise ValueError for what is neither boxes nor a mask; `what` of these it is given as."""
    mask, boxes = "[H, W] bool, True where evidence may lie", "[n, 4], x0, y0, x1, y1 in pixels"
    wanted = {"masks": mask, "boxes": boxes, "never regions": f"{boxes}, or [H, W] bool, True where it must not lie"}[
        what
    ]
    is_mask = place.dtype == torch.bool
    if place.dim() != 2 or what == ("boxes" if is_mask else "masks") or not (is_mask or place.shape[1] == 4):
        raise ValueError(f"{what} of image {image} are {list(place.shape)} of {place.dtype}; expected {wanted}")


def _covers(place: Tensor) -> bool:
    return bool(place.any()) if place.dtype == torch.bool else len(place) > 0


def _kind(pair: Pair) -> int:
    if pair.place is None:
        return NEVER
    return SEGMENT if pair.place.dtype == torch.bool else BOX


def _mask(place: Tensor, image: int, height: int, width: int) -> Tensor:
    """The pixels [H, W] bool of boxes or of a mask."""
    place = place.cpu()
    if place.dtype == torch.bool:
        if place.shape != (height, width):
            raise ValueError(
                f"the mask of image {image} is {list(place.shape)}, but images are {[height, width]}; resize it with them"
            )
        return place
    for box in place.tolist():
        if problem := box_problem(box, height, width):
            raise ValueError(f"the box {tuple(box)} of image {image} {problem}; correct it, or leave it out")
    return paint_boxes(place.float(), [0] * len(place), 1, height, width)[0]
