"""What a dataset file delivers: a list of records (paths and numbers, no pixels) and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class Record(NamedTuple):
    """One image and its annotation, before anything is decoded."""

    path: Path
    classes: tuple[int, ...]  # positive classes, ascending; exactly one for single-label data
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # x0, y0, x1, y1 in pixels of the file, half-open
    box_classes: tuple[int, ...] = ()  # class of each box
    segmentation: Path | None = None  # what `Source.read_segments` reads
    group: int = -1  # -1: the dataset has no groups


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


def layout_error(dataset: str, missing: Path, tree: str) -> ValueError:
    """The error for a missing file or folder: names it and shows the tree that the dataset's `root` must hold."""
    return ValueError(f"{dataset}: {missing} does not exist. Expected layout:\n{tree.strip()}")


def check_on_error(on_error: str) -> None:
    """`on_error` is "raise" or "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"data.on_error is 'raise' or 'skip'; got {on_error!r}")


def fail_or_count(problem: str, on_error: str) -> int:
    """Raise a ValueError about a faulty record, or return 1 for the caller to count it as skipped."""
    if on_error == "skip":
        return 1
    raise ValueError(f"{problem} (data.on_error: skip leaves such records out and counts them)")
