"""Label Studio: the exports JSON and JSON-MIN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.geometry import (
    Point,
    decode_brush,
    encode_mask,
    mask_box,
    polygon_of,
    surrounding_box,
    turned_corners,
)
from guidance.data.formats.pictures import Pictures, path_parts, settle
from guidance.data.reading.files import IMAGE_SUFFIXES, Size, is_integer, is_number, read_json

ROTATED = "rotated boxes, kept as the upright box around them"
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
NOT_IN_NAMES = re.compile(r"(?u)[^-\w.]")  # what it takes out of such a name, after spaces became _
LABELS = ("rectanglelabels", "polygonlabels", "brushlabels", "labels")  # of a result, in which its classes stand


def read_label_studio(source: Path, images: Path) -> Annotations:
    """A JSON or JSON-MIN export: rectangles and polygons in per cent, and masks of the brush.

    A rotated rectangle becomes the upright box around it. Of several annotations of an image the one marked as ground truth
    counts, or the first that was not cancelled. Images are found by the file name at the end of what the export calls them:
    /data/upload/1/1a2b3c4d-name.jpg, /data/local-files/?d=folder/name.jpg, s3://... . Classes are in alphabetical order.
    """
    pictures, remarks, tasks = Pictures(images), Remarks(), read_json(source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"{source} is no list of tasks; --from label_studio expects the export JSON (or JSON-MIN)")
    names = {_uploaded_name(PurePosixPath(name).name): name for name in pictures.names}
    found: dict[str, AnnotatedImage] = {}
    for number, task in enumerate(tasks):
        where = f"task {task.get('id', number)} of {source}"
        try:
            image = _read_task(task, where, pictures, names, remarks)
        except ValueError as error:
            remarks.fault(f"{where}: {error}")
            continue
        if image.name in found:
            remarks.fault(f"{where}: image {image.name} is in a second task; remove one of the two")
        found.setdefault(image.name, image)
    pictures.tell_unnamed(remarks)
    classes = tuple(sorted({item.label for image in found.values() for item in image.objects}))
    return Annotations(classes, tuple(found.values()), remarks.lost, remarks.faults)


def _read_task(
    task: Mapping[str, Any], where: str, pictures: Pictures, names: Mapping[str, str], remarks: Remarks
) -> AnnotatedImage:
    name = _find(_address(task.get("data", task)), pictures, names)
    results = list(_results(task, where, name, remarks))
    told = next(filter(None, map(_size, results)), None)
    header = pictures.header(name)
    objects = []
    for result in results:
        try:
            size = _size(result) or told or header.size(displayed=True)
            if told and size != told:
                raise ValueError(f"is of an image of {size} pixels, another of {told} (height, width)")
            objects += _read_result(result, size, name, remarks)
        except ValueError as error:
            remarks.fault(f"{where}: a {result.get('type', 'result')} {error}")
    return settle(name, objects, header, told, True, remarks)


def _address(data: Any) -> str:
    """What the task calls its image."""
    values = data if isinstance(data, dict) else {}
    found = [value for value in (values.get("image"), *values.values()) if isinstance(value, str)]
    for value in found:
        if PurePosixPath(
            path_parts(_plain_path(value))[-1] if path_parts(_plain_path(value)) else ""
        ).suffix.lower() in (IMAGE_SUFFIXES):
            return value
    raise ValueError("names no image in its data")


def _plain_path(address: str) -> str:
    """The path of a file in an address: of ?d=... where there is one, without the marks of percent-encoding."""
    parts = urlsplit(address)
    asked = parse_qs(parts.query).get("d")
    return asked[0] if asked else unquote(parts.path if parts.scheme not in ("", "file") or parts.query else address)


def _find(address: str, pictures: Pictures, names: Mapping[str, str]) -> str:
    path = _plain_path(address)
    try:
        return pictures.find(path)
    except ValueError:
        last = path_parts(path)[-1]
        plain = UPLOAD.sub("", last)
        if plain != last and plain in names:  # an upload, whose name was changed
            return pictures.find(names[plain])
        if plain != last:
            return pictures.find(plain)
        raise


def _uploaded_name(name: str) -> str:
    return NOT_IN_NAMES.sub("", name.strip().replace(" ", "_"))


def _results(task: Mapping[str, Any], where: str, image: str, remarks: Remarks) -> Iterator[dict[str, Any]]:
    """The results of a task, as the export JSON has them."""
    for _ in task.get("predictions") or ():
        remarks.lose("predictions of a model", image)
    if "data" not in task:  # JSON-MIN: the values alone, in the fields of the task
        for values in task.values():
            for value in values if isinstance(values, list) else ():
                if isinstance(value, dict):
                    yield {"value": value, **{k: value[k] for k in ("original_width", "original_height") if k in value}}
        return
    annotations = [a for a in task.get("annotations", task.get("completions")) or () if isinstance(a, dict)]
    usable = [each for each in annotations if not each.get("was_cancelled")]
    usable.sort(key=lambda each: not each.get("ground_truth"))
    for _ in annotations[len(usable) :]:
        remarks.lose("annotations that were cancelled", image)
    for _ in usable[1:]:
        remarks.lose("further annotations of the same image", image)
    for result in usable[0].get("result") or () if usable else ():
        if isinstance(result, dict):
            yield result
        else:
            remarks.fault(f"{where}: a result is no object: {result!r}")


def _size(result: Mapping[str, Any]) -> Size | None:
    height, width = result.get("original_height"), result.get("original_width")
    return (height, width) if is_integer(height) and is_integer(width) else None


def _read_result(result: Mapping[str, Any], size: Size, image: str, remarks: Remarks) -> list[AnnotatedObject]:
    value = result.get("value")
    if not isinstance(value, dict):
        remarks.lose(f"results of the type '{result.get('type')}'", image)
        return []
    labels = next((value[key] for key in LABELS if value.get(key)), None)
    if not isinstance(labels, list):
        kind = "without a class" if "width" in value or "points" in value else f"of the type '{result.get('type')}'"
        remarks.lose(f"results {kind}", image)
        return []
    if "rle" in value:
        mask = decode_brush(value["rle"], size)
        if not mask.any():
            raise ValueError("has no pixel")
        found = AnnotatedObject("", mask_box(mask), encode_mask(mask))
    elif "points" in value:
        points = [_to_pixels(point, size) for point in value["points"]]
        found = AnnotatedObject("", surrounding_box(points), [polygon_of(points)])
    elif "width" in value:
        found = _read_rectangle(value, size, image, remarks)
    else:
        remarks.lose(f"results of the type '{result.get('type') or ', '.join(value)}'", image)
        return []
    return [AnnotatedObject(str(label), found.box, found.segmentation) for label in labels]


def _read_rectangle(value: Mapping[str, Any], size: Size, image: str, remarks: Remarks) -> AnnotatedObject:
    x0, y0 = _to_pixels([value.get("x"), value.get("y")], size)
    width, height = _to_pixels([value.get("width"), value.get("height")], size)
    box, angle = (x0, y0, x0 + width, y0 + height), value.get("rotation") or 0
    if is_number(angle) and angle % 360:
        remarks.lose(ROTATED, image)
        box = surrounding_box(turned_corners(box, angle, (x0, y0)))
    return AnnotatedObject("", box)


def _to_pixels(point: Sequence[Any], size: Size) -> Point:
    if not isinstance(point, list) or len(point) != 2 or not all(map(is_number, point)):
        raise ValueError(f"has {point!r} in place of two numbers in per cent")
    return point[0] * size[1] / 100, point[1] * size[0] / 100
