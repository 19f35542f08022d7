"""What can be wrong with a data set: files, boxes, segmentations, and images that two splits share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from guidance.data.decode import UnreadableError, check_boxes, read_image
from guidance.data.source import Record, Source

# What a split is counted by, in the order of the table; the first ones are mistakes of the data.
MISTAKES = (
    "faulty records", "unreadable images", "boxes outside the image", "boxes of zero size", "faulty segmentations",
    "images of another split",
)  # fmt: skip
NOTES = ("empty segmentations", "images without a region", "copies within the split", "classes without a region")


class ImageCheck(NamedTuple):
    """What is wrong with one image: (name of a count, explanation) pairs."""

    identity: str  # equal for equal files
    found: tuple[tuple[str, str], ...]
    annotated: frozenset[int]  # positive classes with a box or a segmentation that is not empty


@dataclass(frozen=True)
class SplitCheck:
    """What is known about one split. `counts` holds every name of `MISTAKES` and `NOTES`."""

    source: Source
    counts: Mapping[str, int]
    problems: Sequence[str]  # a line for each mistake
    images: Mapping[int, int]  # class -> images that show it
    annotated: Mapping[int, int]  # class -> images that have a region for it
    identities: Sequence[str]

    @property
    def mistakes(self) -> int:
        return sum(self.counts[name] for name in MISTAKES)


def check_image(source: Source, record: Record, *, quick: bool = False) -> ImageCheck:
    """Check one image and its annotation.

    `quick` reads the size from the file's header, but neither pixels nor segmentations, and tells files apart by their
    paths; otherwise they are equal if their bytes are. A segmentation that is not read counts for all classes of its
    image.
    """
    segmented = frozenset(record.classes if record.segmentation is not None else ())
    boxed = frozenset(record.classes) & frozenset(record.box_classes)
    try:
        height, width = _size_from_header(record.path) if quick else tuple(read_image(record.path).shape[1:])
        identity = str(record.path.resolve()) if quick else hashlib.sha256(record.path.read_bytes()).hexdigest()
    except UnreadableError as error:
        return ImageCheck(str(record.path.resolve()), (("unreadable images", str(error)),), boxed | segmented)
    found = _faulty_boxes(record, height, width)
    if not quick:
        faulty, segmented = _check_segmentations(source, record, height, width)
        found += faulty
    return ImageCheck(identity, tuple(found), boxed | segmented)


def _size_from_header(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError as error:
        raise UnreadableError(f"image {path} does not exist") from error
    except Exception as error:  # see decode.read_image
        raise UnreadableError(f"image {path} cannot be read ({error})") from error


def _faulty_boxes(record: Record, height: int, width: int) -> list[tuple[str, str]]:
    pairs = zip(record.boxes + record.never_boxes, record.box_classes + record.never_classes, strict=True)
    found = []
    for box, index in pairs:
        try:
            check_boxes(record._replace(boxes=(box,), box_classes=(index,)), height, width, "raise")
        except ValueError as error:
            empty = not (box[2] > box[0] and box[3] > box[1])
            # The hint at data.on_error belongs to training.
            text = str(error).partition(" (data.on_error")[0]
            found.append(("boxes of zero size" if empty else "boxes outside the image", text))
    return found


def _check_segmentations(
    source: Source, record: Record, height: int, width: int
) -> tuple[list[tuple[str, str]], frozenset[int]]:
    """What is wrong with the segmentations of an image, and the positive classes of which one has a pixel."""
    if source.read_segments is None or record.segmentation is None:
        return [], frozenset()
    try:
        masks = source.read_segments(record)
    except UnreadableError as error:
        return [("faulty segmentations", str(error))], frozenset()
    sizes = {tuple(mask.shape) for mask in masks.values()}
    if sizes - {(height, width)}:
        text = f"segmentation of {record.path} is {min(sizes)} (height, width), but the image is {(height, width)}"
        return [("faulty segmentations", text)], frozenset()
    empty = [k for k, mask in masks.items() if not bool(mask.any())]
    found = [("empty segmentations", f"{record.path} has no pixel of {source.classes[k]}") for k in empty]
    return found, (frozenset(masks) - frozenset(empty)) & frozenset(record.classes)


def check_split(source: Source, *, quick: bool = False, threads: int = 1) -> SplitCheck:
    """Check every image of a split; what its loader found wrong (`Source.problems`) is among the mistakes."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        checks = list(pool.map(partial(check_image, source, quick=quick), source.records))
    found = [pair for check in checks for pair in check.found]
    images = Counter(k for record in source.records for k in record.classes)
    annotated = Counter(k for check in checks for k in check.annotated)
    identities = [check.identity for check in checks]
    counts = dict.fromkeys((*MISTAKES, *NOTES), 0) | Counter(name for name, _ in found)
    counts |= {
        "faulty records": len(source.problems),
        "images without a region": sum(not check.annotated for check in checks),
        "copies within the split": len(identities) - len(set(identities)),
        "classes without a region": sum(1 for k in images if not annotated[k]),
    }
    problems = [*source.problems, *(text for name, text in found if name in MISTAKES)]
    return SplitCheck(source, counts, problems, images, annotated, identities)


def compare_splits(checks: Sequence[SplitCheck]) -> list[SplitCheck]:
    """The checks, with "images of another split" counted: images whose equals an earlier split holds."""
    seen: dict[str, str] = {}
    result = []
    for check in checks:
        shared = [i for i, identity in enumerate(check.identities) if identity in seen]
        texts = [f"image {check.source.records[i].path} is in {seen[check.identities[i]]} too" for i in shared]
        for record, identity in zip(check.source.records, check.identities, strict=True):
            seen.setdefault(identity, f"{check.source.split} ({record.path})")
        counts = {**check.counts, "images of another split": len(shared)}
        result.append(replace(check, counts=counts, problems=[*check.problems, *texts]))
    return result


def table(checks: Sequence[SplitCheck]) -> str:
    """A column for each split; rows of counts, then of classes: images, and after a slash those with a region."""
    classes = checks[0].source.classes
    rows = [["", *(check.source.split for check in checks)]]
    rows += [[name, *(str(count(check)) for check in checks)] for name, count in _TOTALS.items()]
    rows += [[name, *(str(check.counts[name]) for check in checks)] for name in (*MISTAKES, *NOTES)]
    rows += [["", *("" for _ in checks)], ["class: images / with a region", *("" for _ in checks)]]
    rows += [
        [f"  {name}", *(f"{check.images.get(k, 0)}/{check.annotated.get(k, 0)}" for check in checks)]
        for k, name in enumerate(classes)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


_TOTALS: Mapping[str, Callable[[SplitCheck], int]] = {
    "images": lambda check: len(check.source.records),
    "boxes": lambda check: sum(len(record.boxes) for record in check.source.records),
    "never boxes": lambda check: sum(len(record.never_boxes) for record in check.source.records),
    "segmentations": lambda check: sum(record.segmentation is not None for record in check.source.records),
    "images left out by the loader": lambda check: check.source.skipped,
    "files left alone": lambda check: check.source.left_alone,
}
