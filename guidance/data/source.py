"""What a dataset file delivers: a list of records (paths and numbers, no pixels) and the names of its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from guidance.data.transforms.crops import USUAL, Resizing
from guidance.types import lookup

T = TypeVar("T")


class Record(NamedTuple):
    """One image and its annotation, before anything is decoded."""

    path: Path
    classes: tuple[int, ...]  # positive classes, ascending; exactly one for single-label data
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # x0, y0, x1, y1 in pixels of the file, half-open
    box_classes: tuple[int, ...] = ()  # class of each box
    segmentation: Path | None = None  # what `Source.read_segments` reads; None for an image without a segmentation
    group: int = -1  # -1: the dataset has no groups
    never_boxes: tuple[tuple[float, float, float, float], ...] = ()  # where evidence for a class must not lie
    never_classes: tuple[int, ...] = ()  # class of each of them
    size: tuple[int, int] | None = None  # height and width of the image as its annotation says; None where it does not


@dataclass(frozen=True)
class Source:
    """One split of a dataset.

    `read_segments(record) -> {class: [H, W] bool}` at the size of the image file; it must be picklable, because loader
    workers call it. `complement`: evidence belongs outside the boxes (Waterbirds' background task), so masks are
    inverted.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    single_label: bool
    groups: tuple[str, ...] = ()
    read_segments: Callable[[Record], Mapping[int, Tensor]] | None = None
    complement: bool = False
    skipped: int = 0  # records left out: faulty ones under `on_error: skip`, and images without any label that counts
    problems: tuple[str, ...] = ()  # what is wrong with each of the faulty ones
    left_alone: int = 0  # other files in the folders of classes: no images by their suffix, or a folder too deep
    gaps: tuple[str, ...] = ()  # what one would expect and does not find, such as the folder of a class
    displayed: bool = False  # images are turned as their EXIF orientation says, and so is the frame of their boxes
    crop: str = "none"  # the square of each image that a cache holds, see `transforms.crops.SQUARES`
    resizing: Resizing = USUAL  # how it is made
    fixed_group: int | None = None  # the group that papers call the worst beforehand; None: they name none


def relative_names(records: Iterable[Record]) -> tuple[str, list[str]]:
    """The folder that all images share, and their paths from there: names that stay when a data set is moved."""
    paths = [os.path.abspath(record.path) for record in records]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return common, [path[len(common) :] for path in paths]


class NoSplitError(ValueError):
    """A split is not there, or no data set of the kind has one of that name; it is not that something is wrong with it."""


def lookup_split(table: Mapping[str, T], split: str, dataset: str) -> T:
    """`table[split]`; a miss is a NoSplitError that lists the splits and the closest match."""
    try:
        return lookup(table, split, f"split of {dataset}")
    except ValueError as error:
        raise NoSplitError(str(error)) from None


def layout_error(dataset: str, missing: Path, tree: str) -> ValueError:
    """The error for a missing file or folder: names it and shows the tree that the dataset's `root` must hold."""
    return ValueError(f"{dataset}: {missing} does not exist. Expected layout:\n{tree.strip()}")


def check_on_error(on_error: str) -> None:
    """`on_error` is "raise" or "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"data.on_error is 'raise' or 'skip'; got {on_error!r}")


def fail_or_count(problem: str, on_error: str) -> int:
    """Raise a ValueError about a faulty record, or return 1 for the caller to count it as skipped."""
    return len(fail_or_note(problem, on_error))


def fail_or_note(problem: str, on_error: str) -> list[str]:
    """Raise a ValueError about a faulty record, or return [`problem`], to be joined to `Source.problems`."""
    if on_error == "skip":
        return [problem]
    raise ValueError(f"{problem} (data.on_error: skip leaves such records out and counts them)")
