"""What can be wrong with the splits of a data set: their images, and those that two of them share."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from guidance.data.reading.files import fault_of_file
from guidance.data.reading.image_checks import check_records
from guidance.data.source import Source

# What a split is counted by, in the order of the table. Mistakes stop a run, or are left out with on_error: skip;
MISTAKES = (
    "faulty records", "unreadable images", "boxes outside the image", "boxes of zero size", "faulty segmentations",
    "images of another split", "missing class folders", "damaged images in the cache",
)  # fmt: skip
# doubts are used as they are, and may mean that something is wrong;
DOUBTS = (
    "boxes clipped at the border", "images turned by EXIF", "images of another size than annotated", "damaged bytes",
)  # fmt: skip
# and these are only good to know.
NOTES = (
    "empty segmentations", "images without a region", "copies within the split", "classes without a region",
    "classes without an image",
)  # fmt: skip


@dataclass(frozen=True)
class SplitCheck:
    """What is known about one split. `counts` holds every name of `MISTAKES`, `DOUBTS` and `NOTES`."""

    source: Source
    counts: Mapping[str, int]
    problems: Sequence[str]  # a line for each mistake
    doubts: Sequence[str]  # a line for each of `DOUBTS`
    images: Mapping[int, int]  # class -> images that show it
    annotated: Mapping[int, int]  # class -> images that have a region for it
    identities: Sequence[str]

    @property
    def mistakes(self) -> int:
        return sum(self.counts[name] for name in MISTAKES)


def check_split(source: Source, *, quick: bool = False, threads: int = 1) -> SplitCheck:
    """Check every image of a split; what its loader found wrong (`Source.problems`) is among the mistakes.

    `quick` reads headers, but neither pixels nor segmentations, and tells files apart by their paths; otherwise they are
    equal if their bytes are.
    """
    checks = list(
        check_records(source, source.records, pixels=not quick, segmentations=not quick, threads=threads, shown=True)
    )
    paths = [record.path for record in source.records]
    with ThreadPoolExecutor(max(1, threads)) as pool:
        identities = list(pool.map(partial(_identity, quick=quick), paths))
    found = [pair for check in checks for pair in check.found]
    found += [("missing class folders", gap) for gap in source.gaps]
    images = Counter(k for record in source.records for k in record.classes)
    annotated = Counter(k for check in checks for k in check.annotated)
    counts = dict.fromkeys((*MISTAKES, *DOUBTS, *NOTES), 0) | Counter(name for name, _ in found)
    counts |= {
        "faulty records": len(source.problems),
        "images without a region": sum(not check.annotated for check in checks),
        "copies within the split": len(identities) - len(set(identities)),
        "classes without a region": sum(1 for k in images if not annotated[k]),
        "classes without an image": sum(1 for k in range(len(source.classes)) if not images[k]),
    }
    problems = [*source.problems, *(text for name, text in found if name in MISTAKES)]
    doubts = [text for name, text in found if name in DOUBTS]
    return SplitCheck(source, counts, problems, doubts, images, annotated, identities)


def _identity(path: Path, *, quick: bool) -> str:
    """Equal for equal files."""
    if quick or fault_of_file(path):  # a pipe would keep its reader waiting
        return os.path.realpath(path)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return os.path.realpath(path)


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
    rows += [[name, *(str(check.counts[name]) for check in checks)] for name in (*MISTAKES, *DOUBTS, *NOTES)]
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
