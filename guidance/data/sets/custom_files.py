"""The CSV files of one's own images in folders: boxes and groups."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from guidance.data.reading.files import Box, Listing, Once, box_from_text, is_image, read_csv
from guidance.data.sets.folders import subfolders
from guidance.data.source import Record, fail_or_note
from guidance.types import lookup

BOX_COLUMNS = ("image", "class", "x0", "y0", "x1", "y1")
TRUTH: Mapping[str, bool] = {"": False, "0": False, "false": False, "1": True, "true": True}
NO_SPLITS = ("images", "masks")
Line = tuple[int, dict[str, str]]  # of a CSV: its number and its fields


def read_boxes(
    root: Path, part: str, classes: Sequence[str], listing: Listing, on_error: str
) -> tuple[dict[str, list[Line]], list[str]]:
    """The lines of boxes.csv of each image, and what is wrong with those of the folder `part` that name no image.

    With the training folder goes what is in no folder of a split.
    """
    path = root / "boxes.csv"
    boxes: dict[str, list[Line]] = {}
    problems: list[str] = []
    splits = set(subfolders(root)) - set(NO_SPLITS)
    lines = read_csv(path, BOX_COLUMNS) if _is_there(path) else []
    bare = [(line, row["image"]) for line, row in lines if _is_bare(_plain_name(row["image"]))]
    if bare and (on_error == "raise" or part == "train"):
        problems += fail_or_note(
            f"{len(bare)} of {len(lines)} lines of {path} name their image by its file alone, such as {bare[0][1]!r} in line "
            f"{bare[0][0]}; expected a path from {root}, as train/{classes[0]}/{_plain_name(bare[0][1])}",
            on_error,
        )
    for line, row in lines:
        name = _plain_name(row["image"])
        if _is_bare(name):
            continue  # see above
        split, *below = PurePosixPath(name).parts or ("",)
        there = root / name in listing
        usable = split in splits and len(below) == 2 and below[0] in classes and is_image(PurePosixPath(name))
        if not (there and usable):
            what = "is no image of a split and class" if there else "does not exist"
            problem = (
                f"line {line} of {path}: image {row['image']!r} {what}; expected a path from {root}, as train/cat/1.jpg"
            )
            if on_error == "raise" or part == (split if split in splits else "train"):
                problems += fail_or_note(problem, on_error)
        boxes.setdefault(name, []).append((line, row))
    return boxes, problems


def _is_bare(name: str) -> bool:
    return "/" not in name and is_image(PurePosixPath(name))


def _plain_name(name: str | None) -> str:
    """How the images are called: train/cat/1.jpg for ./train//cat/1.jpg."""
    return PurePosixPath(name or "").as_posix()


def add_box(record: Record, row: Mapping[str, str], classes: Sequence[str], where: str) -> Record:
    """The record with the box of a line of boxes.csv; a ValueError that begins with `where` for a faulty line."""
    try:
        label = lookup({name: label for label, name in enumerate(classes)}, row["class"] or "", "class")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    box: Box = box_from_text([row[column] for column in BOX_COLUMNS[2:]], f"{where}: x0, y0, x1, y1")
    never = TRUTH.get((row.get("never") or "").strip().lower())
    if never is None:
        raise ValueError(f"{where}: never is {row['never']!r}, expected 0 or 1")
    if (box, label) in zip(record.boxes + record.never_boxes, record.box_classes + record.never_classes, strict=True):
        raise ValueError(f"{where}: the box {box} of class {row['class']!r} is listed twice; remove one of the two")
    if never:
        return record._replace(never_boxes=(*record.never_boxes, box), never_classes=(*record.never_classes, label))
    if label not in record.classes:
        raise ValueError(f"{where}: class {row['class']!r} is not the image's, which is {classes[record.classes[0]]!r}")
    return record._replace(boxes=(*record.boxes, box), box_classes=(*record.box_classes, label))


class Groups(NamedTuple):
    """The content of groups.csv."""

    path: Path
    names: tuple[str, ...]  # none: there is no groups.csv
    of_image: Mapping[str, int]

    def check(self, names: Sequence[str]) -> None:
        """A ValueError where it calls none of the images as they are called here: one, instead of one for each image."""
        if self.names and names and not any(name in self.of_image for name in names):
            called = next(iter(self.of_image))
            raise ValueError(
                f"{self.path} has a line for none of the {len(names)} images: it calls them like {called!r}, expected like "
                f"{names[0]!r}"
            )

    def put(self, record: Record, name: str) -> Record:
        """The record with its group; `name` is how groups.csv calls the image."""
        if not self.names:
            return record
        if name not in self.of_image:
            raise ValueError(
                f"image {name} has no line in {self.path}; add it, or remove the file to train without groups"
            )
        return record._replace(group=self.of_image[name])


def read_groups(root: Path) -> Groups:
    """Read groups.csv, which need not be there. A ValueError for an image listed twice or without a group."""
    path = root / "groups.csv"
    if not _is_there(path):
        return Groups(path, (), {})
    rows = read_csv(path, ("image", "group"))
    once = Once(f"{path}: image")
    for line, row in rows:
        once.check(_plain_name(row["image"]))
        if not row["group"]:
            raise ValueError(f"line {line} of {path} names no group")
    names = tuple(sorted({row["group"] for _, row in rows}))
    return Groups(path, names, {_plain_name(row["image"]): names.index(row["group"]) for _, row in rows})


def _is_there(path: Path) -> bool:
    """Whether an optional file is there; a ValueError for a folder, a pipe or a dangling link of its name."""
    if path.is_file():
        return True
    if os.path.lexists(path):
        raise ValueError(f"{path} is not a file that can be read; replace or remove it")
    return False
