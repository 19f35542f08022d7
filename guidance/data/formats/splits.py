"""Which images are for training: lists of files, folders, and how formats call the splits; and the images of a new set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from guidance.data.formats.annotations import AnnotatedImage, Annotations, Remarks
from guidance.data.formats.pictures import Pictures
from guidance.data.reading.files import read_text

# What other tools call the splits -> what they are called here; other names stay.
NAMES: Mapping[str, str] = {"training": "train", "valid": "val", "validation": "val", "testing": "test", "default": ""}
TWICE = "images that a second split lists too, kept in the first"


def split_name(name: str) -> str:
    """The name of a split as a file name, in small letters."""
    plain = name.strip().lower().replace("/", "_").replace("\\", "_")
    return NAMES.get(plain, plain)


def read_lists(folder: Path, pictures: Pictures, remarks: Remarks) -> dict[str, str]:
    """Image -> split, from the files <split>.txt of a folder, which need not be there; "trainval" is both.

    Lists of VOC for one class, such as cat_train.txt, are none.
    """
    lists = {path.stem: path for path in sorted(folder.glob("*.txt")) if "_" not in path.stem}
    if "train" in lists and "val" in lists:
        lists.pop("trainval", None)
    order = sorted(lists, key=lambda name: (name != "train", name != "val", name))
    return assign({name: read_list(lists[name], pictures, remarks) for name in order}, remarks)


def read_list(path: Path, pictures: Pictures, remarks: Remarks) -> list[str]:
    """The images that a text file lists, one a line; those that are missing are faults."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(pictures.find(line))
        except ValueError as error:
            remarks.fault(f"line {number} of {path}: {error}")
    return found


def assign(lists: Mapping[str, Iterable[str]], remarks: Remarks) -> dict[str, str]:
    """Image -> split; an image of two splits belongs to the one that comes first, which is told."""
    found: dict[str, str] = {}
    for split, names in lists.items():
        for name in dict.fromkeys(names):
            if name in found:
                remarks.lose(TWICE, name)
            else:
                found[name] = split_name(split)
    return found


def images_by_stem(annotations: Annotations, tool: str) -> Iterator[tuple[AnnotatedImage, str]]:
    """The images, and what tools that tell them by their path without its suffix call them; ValueError for two alike."""
    stems: set[str] = set()
    for image in annotations.images:
        stem = PurePosixPath(image.name).with_suffix("").as_posix()
        if stem in stems:
            raise ValueError(
                f"two images are called {stem} but for their suffix, and {tool} tells images by that; rename one"
            )
        stems.add(stem)
        yield image, stem


def link_images(images: Path, target: Path) -> None:
    """`target` becomes a link to the folder of images, or a copy where there are no links; it may be that folder already."""
    images = images.resolve()
    if target.exists() and target.resolve() == images:
        return
    if os.path.lexists(target):
        raise ValueError(f"{target} exists and is not {images}; choose another --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(images, target_is_directory=True)
    except OSError:  # Windows gives the right to make links to few
        shutil.copytree(images, target)
