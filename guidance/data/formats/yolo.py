"""YOLO text files: a line for each object, with its class and its box, or its outline, in shares of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.geometry import polygon_of, surrounding_box
from guidance.data.formats.pictures import UNLISTED, Pictures, path_parts, settle
from guidance.data.formats.splits import assign, read_list, split_name
from guidance.data.reading.decode import Header
from guidance.data.reading.files import Size, as_integer, as_number, read_text

SPLITS = ("train", "val", "valid", "test")
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
NO_LABELS = frozenset((*CLASS_LISTS, *(f"{name}.txt" for name in SPLITS), "readme.txt", "README.txt"))
UNLABELLED = "images without a label file, kept as images without an object"


class _Set(NamedTuple):
    """What the class list or data.yaml says of a set."""

    classes: tuple[str, ...]
    keypoints: int  # numbers of a line after its box that are keypoints
    splits: Mapping[str, str]  # image -> split


def read_yolo(source: Path, images: Path) -> Annotations:
    """Label files below a folder with data.yaml, or with a list of the classes (classes.txt, obj.names); or that data.yaml.

    A label file belongs to the image of its name: labels/train/a.txt to train/a.jpg or images/train/a.jpg. Empty files are
    images without an object, and so are images that have no file. A line with more than four numbers is an outline (also an
    oriented box), and its box surrounds it; with five, the last is the confidence of a net. Boxes refer to the image as it is
    displayed, because what trains on such files turns images by EXIF.
    """
    folder = source if source.is_dir() else source.parent
    pictures, remarks = Pictures(images), Remarks()
    known = _read_set(source, folder, pictures, remarks)
    labels = _label_files(folder, pictures, remarks)
    found = []
    for name in pictures.names:
        if known.splits and name not in known.splits:
            remarks.lose(UNLISTED, name)
            continue
        if name not in labels:
            remarks.lose(UNLABELLED, name)
        try:
            header = pictures.header(name)
            lines = read_text(labels[name]).splitlines() if name in labels else []
        except ValueError as error:
            remarks.fault(str(error))
            continue
        objects = _read_lines(lines, header, labels.get(name, folder), name, known, remarks)
        image = settle(name, objects, header, None, True, remarks)
        found.append(AnnotatedImage(name, image.size, image.objects, known.splits.get(name, "")))
    return Annotations(known.classes, tuple(found), remarks.lost, remarks.faults)


def _read_set(source: Path, folder: Path, pictures: Pictures, remarks: Remarks) -> _Set:
    files = [source] if source.is_file() else sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    for path in files:
        content = _read_yaml(path)
        if isinstance(content, dict) and "names" in content:
            shape = content.get("kpt_shape") or (0, 0)
            return _Set(
                _names(content["names"], path), shape[0] * shape[1], _splits(content, folder, pictures, remarks)
            )
    lists = [folder / name for name in CLASS_LISTS if (folder / name).is_file()] or sorted(folder.glob("*.names"))
    lists = lists or [path for name in CLASS_LISTS for path in sorted(folder.rglob(name))]
    if not lists:
        raise ValueError(
            f"{folder} has no list of the classes; --from yolo expects a data.yaml with 'names', or a classes.txt with a class "
            "on each line"
        )
    names = [line.strip() for line in read_text(lists[0]).splitlines()]
    while names and not names[-1]:
        names.pop()
    content = {name: f"{name}.txt" for name in SPLITS if (folder / f"{name}.txt").is_file()}
    return _Set(_names(names, lists[0]), 0, _splits(content, folder, pictures, remarks))


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML ({error}); correct the file") from error


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"the names in {path} must be numbered from 0 on; got {', '.join(map(str, names))}")
        names = [names[key] for key in range(len(names))]
    found = tuple(str(name) for name in names) if isinstance(names, list) else ()
    if not found or "" in found or len(set(found)) < len(found):
        raise ValueError(f"{path} must name each class once, without a gap; got {list(found)}")
    return found


def _splits(content: Mapping[str, Any], folder: Path, pictures: Pictures, remarks: Remarks) -> dict[str, str]:
    """Image -> split, from the folders and lists of files that are named."""
    lists = {}
    for split in SPLITS:
        given = content.get(split)
        entries = given if isinstance(given, list) else [given] if given else []
        if entries:
            lists[split_name(split)] = [
                name for entry in entries for name in _members(str(entry), folder, pictures, remarks)
            ]
    return assign(lists, remarks)


def _members(entry: str, folder: Path, pictures: Pictures, remarks: Remarks) -> list[str]:
    parts = path_parts(entry)
    if entry.strip().endswith(".txt"):
        places = [folder.joinpath(*parts[start:]) for start in range(len(parts))]
        path = next((place for place in places if place.is_file()), places[-1])
        return read_list(path, pictures, remarks)
    # A folder, of this machine or another: the longest end of its path that is a folder of images, "images" left aside.
    plain = tuple(part for part in parts if part != "images")
    for start in range(len(plain)):
        within = [name for name in pictures.names if _key(name, "images")[: len(plain) - start] == plain[start:]]
        if within:
            return within
    if not plain or parts[-2:] == pictures.folder.resolve().parts[-len(parts[-2:]) :]:
        return list(pictures.names)
    remarks.fault(
        f"{entry!r}, a folder of a split, holds none of the images of {pictures.folder}; give --images its parent"
    )
    return []


def _key(name: str, kind: str) -> tuple[str, ...]:
    """Path without suffix and without the folder `kind`: the same for an image and its label file."""
    path = PurePosixPath(name)
    return tuple(part for part in (*path.parts[:-1], path.stem) if part != kind)


def _label_files(folder: Path, pictures: Pictures, remarks: Remarks) -> dict[str, Path]:
    """Image -> its label file; files that belong to no image are faults."""
    by_key: dict[tuple[str, ...], list[str]] = {}
    for name in pictures.names:
        key = _key(name, "images")
        for start in range(len(key)):
            by_key.setdefault(key[start:], []).append(name)
    found: dict[str, Path] = {}
    base = folder / "labels" if (folder / "labels").is_dir() else folder
    for path in sorted(base.rglob("*.txt")):
        if path.name in NO_LABELS:
            continue
        owner = _owner(_key(path.relative_to(folder).as_posix(), "labels"), by_key)
        if owner is None:
            remarks.fault(
                f"label file {path} belongs to no image of {pictures.folder}, or to several; add or rename it"
            )
        elif owner in found:
            remarks.fault(f"image {owner} has two label files, {found[owner]} and {path}; remove one of the two")
        else:
            found[owner] = path
    return found


def _owner(key: tuple[str, ...], by_key: Mapping[tuple[str, ...], Sequence[str]]) -> str | None:
    for start in range(len(key)):
        names = by_key.get(key[start:], [])
        whole = [name for name in names if _key(name, "images") == key[start:]]
        if names:
            return (whole or names)[0] if len(whole or names) == 1 else None
    return None


def _read_lines(
    lines: Iterable[str], header: Header, path: Path, image: str, known: _Set, remarks: Remarks
) -> list[AnnotatedObject]:
    size, objects = header.size(displayed=True), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            objects.append(_read_object(line.split(), size, image, known, remarks))
        except ValueError as error:
            remarks.fault(f"line {number} of {path}: {error}")
    return objects


def _read_object(fields: Sequence[str], size: Size, image: str, known: _Set, remarks: Remarks) -> AnnotatedObject:
    label, values = as_integer(fields[0]), [as_number(field) for field in fields[1:]]
    if not 0 <= label < len(known.classes):
        raise ValueError(f"class {label} is not among the {len(known.classes)} classes (0 to {len(known.classes) - 1})")
    if known.keypoints and len(values) == 4 + known.keypoints:
        remarks.lose("keypoints", image)
        values = values[:4]
    if len(values) == 5:
        remarks.lose("confidences", image)
        values = values[:4]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"{len(fields)} numbers, expected a class and x, y, width, height, or the points of an outline"
        )
    if any(abs(value) > 2 for value in values):
        raise ValueError("numbers are shares of the image, between 0 and 1, not pixels")
    height, width = size
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return AnnotatedObject(known.classes[label], box)
    points = [(x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True)]
    return AnnotatedObject(known.classes[label], surrounding_box(points), [polygon_of(points)])
