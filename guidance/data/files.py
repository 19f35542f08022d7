"""Reading annotation files. What is missing, malformed or named twice is a ValueError that says where."""

from __future__ import annotations

import csv
import json
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Box = tuple[float, float, float, float]


class Listing:
    """Which files there are. Each folder is read once, which is much quicker than to ask for file after file."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def __contains__(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        return path.name in self._names[folder]

    def require_image(self, path: Path) -> Path:
        """`path`; a ValueError where there is no such file."""
        if path not in self:
            raise ValueError(f"image {path} does not exist; add it or remove it from the annotation")
        return path


class Once:
    """Finds what is named twice."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[Any] = set()

    def check(self, name: Any) -> None:
        """A ValueError where `name` was given before."""
        if name in self._seen:
            raise ValueError(f"{self._what} {name} is listed twice; remove one of the two")
        self._seen.add(name)


def as_box(values: Sequence[Any], what: str) -> Box:
    """Four finite numbers; a ValueError that begins with `what` for anything else."""
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is {values!r}, expected four numbers") from error
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"{what} is {values!r}, expected four finite numbers")
    return x0, y0, x1, y1


def box_from_size(values: Sequence[Any], what: str) -> Box:
    """x, y, width, height to x0, y0, x1, y1."""
    x, y, width, height = as_box(values, what)
    return x, y, x + width, y + height


def unique_names(names: Iterable[str], what: str) -> tuple[str, ...]:
    """The names as a tuple; a ValueError where one comes twice."""
    once, found = Once(what), tuple(names)
    for name in found:
        once.check(name)
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file that exists."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); correct the file") from error


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file that exists, with their line numbers; it must have `columns`."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; expected the columns {', '.join(columns)}")
        return [(reader.line_num, row) for row in reader]


class XMLObject(NamedTuple):
    """An object of a VOC-style annotation; the box as it stands in the file."""

    label: int
    box: Box
    difficult: bool


def read_xml_objects(path: Path, labels: Mapping[str, int], expected: str) -> list[XMLObject]:
    """The objects of a VOC-style annotation; ValueError where the file is missing, malformed, or without objects.

    `labels`: name -> class; another name is a ValueError, which calls the known ones `expected`.
    """
    try:
        tree = ElementTree.parse(path)
    except FileNotFoundError as error:
        raise ValueError(f"annotation {path} does not exist; add it or remove the id from the split") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"annotation {path} is not well-formed XML ({error}); correct the file") from error
    objects = [_read_object(node, path, labels, expected) for node in tree.getroot().findall("object")]
    if not objects:
        raise ValueError(f"annotation {path} has no objects, so its image has no label; remove the id from the split")
    return objects


def _read_object(node: ElementTree.Element, path: Path, labels: Mapping[str, int], expected: str) -> XMLObject:
    name = (node.findtext("name") or "").strip()
    if name not in labels:
        raise ValueError(f"class {name!r} in {path} is not one of {expected}: {', '.join(labels)}")
    corners = [node.findtext(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        box = as_box(corners, "the box")
    except ValueError as error:
        raise ValueError(
            f"an object {name!r} in {path} has no <bndbox> with numbers xmin, ymin, xmax and ymax; correct the file"
        ) from error
    return XMLObject(labels[name], box, (node.findtext("difficult") or "0").strip() == "1")
