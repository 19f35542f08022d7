"""Reading XML files that anyone may have written, and annotations in the manner of VOC."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from guidance.data.reading.files import Box, Size, as_integer, box_from_text, read_bytes


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. ValueError where it is missing, malformed, or declares a document type.

    A document type is where entities are declared, which can grow to gigabytes or name other files; no format of
    annotations has one.
    """
    content = read_bytes(path, "annotation ")
    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse
    try:
        checker.Parse(content, True)
        return ElementTree.fromstring(content)
    except _DoctypeError as error:
        raise ValueError(f"annotation {path} declares a document type (<!DOCTYPE>); remove the declaration") from error
    # The latter two: an unknown encoding.
    except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"annotation {path} is not well-formed XML ({error}); correct the file") from error


class _DoctypeError(Exception):
    pass


def _refuse(*_: object) -> None:
    raise _DoctypeError


class XMLObject(NamedTuple):
    """An object of a VOC-style annotation; the box as it stands in the file."""

    label: int
    box: Box
    difficult: bool


class XMLAnnotation(NamedTuple):
    """A VOC-style annotation."""

    objects: list[XMLObject]
    size: Size | None  # of the image, as the file says; None where it does not


def read_xml_annotation(path: Path, labels: Mapping[str, int], expected: str) -> XMLAnnotation:
    """A VOC-style annotation; ValueError where the file is missing, malformed, or without objects.

    `labels`: name -> class; another name is a ValueError, which calls the known ones `expected`.
    """
    root = read_xml(path)
    objects = [_read_object(node, path, labels, expected) for node in root.findall("object")]
    if not objects:
        raise ValueError(f"annotation {path} has no objects, so its image has no label; remove the id from the split")
    return XMLAnnotation(objects, annotated_size(root))


def annotated_size(root: ElementTree.Element) -> Size | None:
    """Height and width of the image as the root of its annotation says; None where it does not."""
    # Published files hold sizes of zero, or none; nothing but a check depends on them.
    try:
        height, width = (as_integer(root.findtext(f"size/{side}", "")) for side in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _read_object(node: ElementTree.Element, path: Path, labels: Mapping[str, int], expected: str) -> XMLObject:
    name = (node.findtext("name") or "").strip()
    if name not in labels:
        raise ValueError(f"class {name!r} in {path} is not one of {expected}: {', '.join(labels)}")
    try:
        box = annotated_box(node)
    except ValueError as error:
        raise ValueError(
            f"an object {name!r} in {path} has no <bndbox> with numbers xmin, ymin, xmax and ymax; correct the file"
        ) from error
    return XMLObject(labels[name], box, (node.findtext("difficult") or "0").strip() == "1")


def annotated_box(node: ElementTree.Element) -> Box:
    """xmin, ymin, xmax, ymax of an object as they stand in the file; ValueError where they are not four numbers."""
    return box_from_text([node.findtext(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")], "the box")
