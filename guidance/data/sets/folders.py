"""Data sets with a folder for each split and, in it, a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.files import is_hidden, is_image
from guidance.data.source import Record, fail_or_note, layout_error, lookup_split
from guidance.data.splits import train_or_val


class Part(NamedTuple):
    """Where a split lies: in a folder of its own, or, with `shared`, in the training folder (see `train_or_val`)."""

    folder: Path
    shared: bool

    def is_held_out(self, split: str) -> bool:
        """Whether `split` is taken from the training folder, of which the split "train" tells what is wrong."""
        return self.shared and split == "val"


class Item(NamedTuple):
    """An image of a class folder."""

    path: Path
    label: int

    @property
    def name(self) -> str:
        """<class folder>/<file>."""
        return f"{self.path.parent.name}/{self.path.name}"


def subfolders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in `folder` that are not hidden, in alphabetical order."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path)))


def find_part(
    root: Path, split: str, dataset: str, tree: str, *, ignore: Collection[str] = (), val_is_test: bool = False
) -> Part:
    """Where `split` of the folders in `root` lies; the names in `ignore` are no splits.

    Without a folder "val", the split "val" is held out from "train". `val_is_test`: the folder "val" is the test split,
    unless there is a folder "test".
    """
    if not (root / "train").is_dir():
        raise layout_error(dataset, root / "train", tree)
    parts = {name: Part(root / name, False) for name in subfolders(root) if name not in ignore}
    if val_is_test and "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    if "val" not in parts:
        parts["train"] = parts["val"] = Part(root / "train", True)
    return lookup_split(parts, split, dataset)


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, in alphabetical order; a ValueError where there is none."""
    names = subfolders(folder)
    if not names:
        raise ValueError(
            f"{folder} has no folder for any class; put the images of each class into a folder of its name"
        )
    return names


def labels_of(folders: Sequence[str], part: Part) -> dict[str, int]:
    """Class folder -> class, in the order of `folders`; a ValueError where `part` has a class folder besides them."""
    unknown = [name for name in subfolders(part.folder) if name not in folders]
    if unknown:
        raise ValueError(
            f"{part.folder / unknown[0]} is a class that the training split does not have; remove the folder"
        )
    return {name: label for label, name in enumerate(folders)}


def missing_folders(part: Part, folders: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each of the class `folders` that a split lacks, or has empty: training goes on without the class."""
    there = subfolders(part.folder)
    empty = [name for name in there if not any(map(is_image, (part.folder / name).iterdir()))]
    return tuple(
        f"{part.folder} has no {'image in its ' if name in empty else ''}folder for the class {name!r}"
        for name in folders
        if name not in there or name in empty
    )


def list_items(part: Part, labels: Mapping[str, int]) -> tuple[list[Item], int]:
    """All images of the folder, in the order of class folders and file names, and how many other files it holds.

    `labels`: class folder -> class. A class folder that does not exist has no images. Files that are no images by their
    suffix (`IMAGE_SUFFIXES`), or lie beside or below the class folders, are left alone and counted. Hidden files are not.
    """
    items, others = [], sum(path.is_file() and not is_hidden(path) for path in part.folder.iterdir())
    for name, label in labels.items():
        folder = part.folder / name
        paths = sorted(path for path in folder.iterdir() if not is_hidden(path)) if folder.is_dir() else []
        items += [Item(path, label) for path in paths if is_image(path)]
        others += sum(len(_files_below(path)) if path.is_dir() else 1 for path in paths if not is_image(path))
    return items, others


def choose_items(items: Sequence[Item], part: Part, split: str, *, fraction: float, seed: int) -> list[Item]:
    """Those of all images of `part` that belong to `split` (see `train_or_val`)."""
    if not part.shared:
        return list(items)
    names, classes = [item.name for item in items], [item.label for item in items]
    return train_or_val(items, split, names=names, fraction=fraction, seed=seed, classes=classes)


def read_items(
    items: Sequence[Item], annotate: Callable[[Item], Record], on_error: str
) -> tuple[tuple[Record, ...], list[str]]:
    """The record of each item, and what is wrong with those left out, where `annotate` found fault (a ValueError)."""
    records: list[Record] = []
    problems: list[str] = []
    for item in items:
        try:
            records.append(annotate(item))
        except ValueError as error:
            problems += fail_or_note(str(error), on_error)
    return tuple(records), problems


def mask_path(masks: Path, part: Part, item: Item) -> Path:
    """Where the mask of an image lies, if it has one."""
    return (masks / part.folder.name / item.name).with_suffix(".png")


def check_masks(masks: Path, part: Part, items: Sequence[Item], on_error: str) -> list[str]:
    """What is wrong with the files for `part` in `masks`: each must be the mask of one of `items`, all its images.

    With the training folder goes what lies in `masks` under the name of no folder of images.
    """
    folder, root = masks / part.folder.name, part.folder.parent
    expected = dict.fromkeys(mask_path(masks, part, item) for item in items)
    example = next(iter(expected), folder / "<class>/<image>.png")
    problems: list[str] = []
    for path in _files_below(folder):
        if path not in expected:
            name = path.with_suffix(".png") if path.with_suffix(".png") in expected else example
            problems += fail_or_note(f"mask {path} belongs to no image of {part.folder}; expected {name}", on_error)
    for path in sorted(masks.iterdir()) if part.folder.name == "train" else ():
        if not (root / path.name).is_dir() and not is_hidden(path):
            problems += fail_or_note(f"{path} belongs to no split of {root}; expected masks as {example}", on_error)
    return problems


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found)
