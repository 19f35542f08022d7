"""CVAT XML for images 1.1."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.geometry import Point, encode_mask, mask_box, polygon_of, surrounding_box, turned_corners
from guidance.data.formats.pictures import Pictures, settle
from guidance.data.formats.splits import split_name
from guidance.data.making.shapes import MAX_PIXELS
from guidance.data.reading.files import Size, as_box, as_integer, as_number
from guidance.data.reading.xml_files import read_xml

ROTATED = "rotated boxes, kept as the upright box around them"
# What has no place here, by its tag.
LEFT_OUT: Mapping[str, str] = {
    "polyline": "polylines", "points": "points", "cuboid": "cuboids", "skeleton": "skeletons (keypoints)",
    "ellipse": "ellipses",
}  # fmt: skip


def read_cvat(source: Path, images: Path) -> Annotations:
    """An export "CVAT for images 1.1": a file annotations.xml, or the folder that holds it.

    Boxes, polygons and masks are kept; a tag says that its class is in the image. A rotated box becomes the upright box
    around it. Subsets are splits. Classes are those of the labels of the task or project, in their order.
    """
    path = source / "annotations.xml" if source.is_dir() else source
    root, pictures, remarks = read_xml(path), Pictures(images), Remarks()
    tracks = root.findall("track")
    for track in tracks:
        remarks.lose("tracks of videos", f"track {track.get('id')}")
    nodes = root.findall("image")
    if not nodes and not tracks:
        raise ValueError(f"{path} has no <image>; --from cvat expects the export 'CVAT for images 1.1'")
    labels = {(node.findtext("name") or "").strip() for node in root.iter("label")} - {""}
    classes = list(dict.fromkeys((node.findtext("name") or "").strip() for node in root.iter("label")))
    found: dict[str, AnnotatedImage] = {}
    for node in nodes:
        try:
            image = _read_image(node, pictures, labels, remarks)
        except ValueError as error:
            remarks.fault(str(error))
            continue
        if image.name in found:
            remarks.fault(f"image {image.name} is listed twice; remove one of the two")
        found.setdefault(image.name, image)
    pictures.tell_unnamed(remarks)
    used = sorted({item.label for image in found.values() for item in image.objects} - set(classes))
    return Annotations((*filter(None, classes), *used), tuple(found.values()), remarks.lost, remarks.faults)


def _read_image(node: ElementTree.Element, pictures: Pictures, labels: set[str], remarks: Remarks) -> AnnotatedImage:
    name = pictures.find(node.get("name") or "")
    try:
        told: Size | None = as_integer(node.get("height") or ""), as_integer(node.get("width") or "")
    except ValueError:
        told = None
    header = pictures.header(name)
    objects = []
    for child in node:
        if child.tag in LEFT_OUT:
            remarks.lose(LEFT_OUT[child.tag], name)
        elif child.tag in READERS:
            try:
                objects.append(_read_object(child, told or header.size(displayed=True), labels, name, remarks))
            except ValueError as error:
                remarks.fault(f"a <{child.tag}> of image {name} {error}")
    settled = settle(name, objects, header, told, True, remarks)
    return AnnotatedImage(name, settled.size, settled.objects, split_name(node.get("subset") or ""))


def _read_object(
    node: ElementTree.Element, size: Size, labels: set[str], image: str, remarks: Remarks
) -> AnnotatedObject:
    label = (node.get("label") or "").strip()
    if not label or (labels and label not in labels):
        raise ValueError(f"has the label {label!r}, which is not among the labels of the task")
    if node.find("attribute") is not None:
        remarks.lose("attributes of objects", image)
    if node.get("occluded") == "1":
        remarks.lose("marks 'occluded'", image)
    return READERS[node.tag](node, label, size, image, remarks)


def _read_box(node: ElementTree.Element, label: str, size: Size, image: str, remarks: Remarks) -> AnnotatedObject:
    box = as_box([as_number(node.get(key) or "") for key in ("xtl", "ytl", "xbr", "ybr")], "has a box that")
    angle = as_number(node.get("rotation") or "0")
    if angle % 360:
        remarks.lose(ROTATED, image)
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        box = surrounding_box(turned_corners(box, angle, middle))
    return AnnotatedObject(label, box)


def _read_polygon(node: ElementTree.Element, label: str, size: Size, image: str, remarks: Remarks) -> AnnotatedObject:
    points: list[Point] = []
    for pair in (node.get("points") or "").split(";"):
        x, _, y = pair.partition(",")
        points.append((as_number(x), as_number(y)))
    return AnnotatedObject(label, surrounding_box(points), [polygon_of(points)])


def _read_mask(node: ElementTree.Element, label: str, size: Size, image: str, remarks: Remarks) -> AnnotatedObject:
    """Runs of background and object in turns, row by row, in a rectangle of the image."""
    left, top, width, height = (as_integer(node.get(key) or "") for key in ("left", "top", "width", "height"))
    runs = [as_integer(run) for run in (node.get("rle") or "").split(",")]
    inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    if not inside or size[0] * size[1] > MAX_PIXELS or min(runs) < 0 or sum(runs) != width * height:
        raise ValueError("has runs that do not fill its rectangle, or a rectangle that is not inside the image")
    mask = np.zeros(size, dtype=bool)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    if not mask.any():
        raise ValueError("has no pixel")
    return AnnotatedObject(label, mask_box(mask), encode_mask(mask))


def _read_tag(node: ElementTree.Element, label: str, size: Size, image: str, remarks: Remarks) -> AnnotatedObject:
    return AnnotatedObject(label, None)


READERS: Mapping[str, Callable[[ElementTree.Element, str, Size, str, Remarks], AnnotatedObject]] = {
    "box": _read_box,
    "polygon": _read_polygon,
    "mask": _read_mask,
    "tag": _read_tag,
}
