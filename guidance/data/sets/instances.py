"""Annotations in the format of COCO's instances files, whoever wrote them."""

from __future__ import annotations

import pickle
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from guidance.data.making.shapes import check_shape, code_size, decode_shapes, is_size
from guidance.data.reading.decode import UnreadableError, read_header
from guidance.data.reading.files import Box, Listing, Once, Size, as_box, box_from_size, is_integer, read_json
from guidance.data.source import Record, fail_or_note
from guidance.data.splits import train_or_val

LARGE = 2**24  # pixels from which on the size in an annotation is compared with the file's before masks are made of it
Segments = Mapping[str, bytes]  # path of an image -> its pickled `_Segment`s: what loader workers share stays small


class Picture(NamedTuple):
    """An image of an instances file and its annotations, as they stand there."""

    name: str
    size: tuple[Any, Any]  # height, width; None where the file does not say
    annotations: list[dict[str, Any]]


class Instances(NamedTuple):
    """The content of an instances file. What is wrong with single annotations is found by `read_records`."""

    path: Path
    categories: dict[int, str]
    pictures: list[Picture]
    strays: list[str]  # what is wrong with entries that belong to no image


class _Segment(NamedTuple):
    label: int
    size: tuple[Any, Any]
    shape: Any  # polygons, or a run-length code as text or list


class _Annotation(NamedTuple):
    label: int
    box: Box | None
    segment: _Segment | None
    never: bool


def read_instances(path: Path) -> Instances:
    """Read an instances file that exists. A ValueError where it does not have the format's sections."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{path} must hold the lists 'images', 'annotations' and 'categories', as COCO's files do")
    pictures: dict[Any, Picture] = {}
    names, strays = Once(f"{path}: image"), []
    for entry in content["images"]:
        try:
            name, key = entry["file_name"], entry["id"]
            if not isinstance(name, str) or not _is_key(key):
                raise TypeError
            if key in pictures:
                raise ValueError(f"{path}: image id {key} is listed twice; remove one of the two")
            names.check(name)
            pictures[key] = Picture(name, (entry.get("height"), entry.get("width")), [])
        except (KeyError, TypeError, AttributeError):
            strays.append(f"{path}: an image {reprlib.repr(entry)} has no id or file_name")
        except ValueError as error:
            strays.append(str(error))
    for entry in content["annotations"]:
        image = entry.get("image_id") if isinstance(entry, dict) else None
        if _is_key(image) and image in pictures:
            pictures[image].annotations.append(entry)
        else:
            strays.append(f"{path}: annotation {_shown(entry)} has no image_id that is among the images")
    return Instances(path, _read_categories(content["categories"], path), list(pictures.values()), strays)


def choose_pictures(
    file: Instances, split: str, *, shared: bool, fraction: float, seed: int, on_error: str
) -> tuple[list[Picture], int, list[str]]:
    """The pictures of `split` that show a class, how many show none, and what is wrong with entries of no picture.

    `shared`: "train" and "val" share the file, see `train_or_val`; what neither uses is then told of "train".
    """
    pictures = [picture for picture in file.pictures if not all(map(_forbids, picture.annotations))]
    unlabelled = len(file.pictures) - len(pictures)
    problems = [noted for problem in file.strays for noted in fail_or_note(problem, on_error)]
    if not shared:
        return pictures, unlabelled, problems
    names = [picture.name for picture in pictures]
    chosen = train_or_val(pictures, split, names=names, fraction=fraction, seed=seed)
    return (chosen, unlabelled, problems) if split == "train" else (chosen, 0, [])


def read_records(
    pictures: Sequence[Picture],
    path: Path,
    folder: Path,
    labels: Mapping[int, int],
    *,
    on_error: str,
    boxless: bool = False,
) -> tuple[list[Record], list[str], Segments]:
    """The records of `pictures`, what is wrong with those left out, and the segmentations, for `segment_reader`.

    `path` is the instances file, `folder` holds the images, `labels` maps category ids to classes. `boxless`: an
    annotation may come without a bbox, and then only says that its class is there. One with "never": true, which is no
    part of COCO's format, says where evidence for its class must not lie, and not that the class is there.

    A class of an image has a segmentation only if each of its annotations that has a bbox has one too: the union of
    those that have would leave out the other objects. Without it, "best" takes the boxes of all of them.
    """
    records, listing = [], Listing()
    problems: list[str] = []
    segments: dict[str, bytes] = {}
    once = Once(f"{path}: annotation")
    for picture in pictures:
        try:
            entries = [_read_annotation(entry, picture, path, labels, boxless) for entry in picture.annotations]
            found = _without_incomplete(entries)
            for entry in picture.annotations:
                if entry.get("id") is not None:
                    once.check(str(entry["id"]))
            record = _record(found, listing.require_image(folder / picture.name), path, picture.size)
        except ValueError as error:
            problems += fail_or_note(str(error), on_error)
            continue
        records.append(record)
        if record.segmentation is not None:
            segments[str(record.path)] = pickle.dumps([item.segment for item in found if item.segment is not None])
    return records, problems, segments


def segment_reader(segments: Segments) -> Callable[[Record], Mapping[int, Tensor]] | None:
    """`Source.read_segments`: of each class the union of its segmentations; None where there is none at all."""
    return partial(_read_segments, segments) if segments else None


def _without_incomplete(found: Sequence[_Annotation]) -> list[_Annotation]:
    """Without the segmentations of the classes that have them for some of their boxes only."""
    incomplete = {item.label for item in found if not item.never and item.box is not None and item.segment is None}
    return [item._replace(segment=None) if item.label in incomplete else item for item in found]


def _record(found: Sequence[_Annotation], path: Path, file: Path, size: tuple[Any, Any]) -> Record:
    allowed = [item for item in found if not item.never]
    boxed = [(item.box, item.label) for item in allowed if item.box is not None]
    never = [(item.box, item.label) for item in found if item.never and item.box is not None]
    return Record(
        path=path,
        classes=tuple(sorted({item.label for item in allowed})),
        boxes=tuple(box for box, _ in boxed),
        box_classes=tuple(label for _, label in boxed),
        segmentation=file if any(item.segment is not None for item in allowed) else None,
        never_boxes=tuple(box for box, _ in never),
        never_classes=tuple(label for _, label in never),
        size=size if is_size(size) else None,
    )


def _read_annotation(
    entry: Mapping[str, Any], picture: Picture, path: Path, labels: Mapping[int, int], boxless: bool
) -> _Annotation:
    what = f"annotation {_shown(entry)} of image {picture.name!r} in {path}"
    category, bbox, shape, never = (entry.get(key) for key in ("category_id", "bbox", "segmentation", "never"))
    if not is_integer(category) or category not in labels:
        raise ValueError(f"{what} has category_id {reprlib.repr(category)}, which is not among the categories")
    if never is not None and not isinstance(never, bool):
        raise ValueError(f"{what} has 'never' {reprlib.repr(never)}, expected true or false")
    forbids = bool(never)
    if bbox is None and (forbids or not boxless):
        raise ValueError(f"{what} has no bbox")
    box = None if bbox is None else box_from_size(as_box(bbox, f"{what}: bbox [x, y, width, height]"))
    if forbids or shape in (None, "", {}, [], [[]]):
        return _Annotation(labels[category], box, None, forbids)
    try:
        check_shape(shape, picture.size)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from error
    return _Annotation(labels[category], box, _Segment(labels[category], picture.size, shape), False)


def _is_key(value: Any) -> bool:
    return is_integer(value) or isinstance(value, str)


def _forbids(entry: Mapping[str, Any]) -> bool:
    return entry.get("never") is True  # anything else is either no, or a fault that `_read_annotation` finds


def _read_categories(entries: Sequence[Any], path: Path) -> dict[int, str]:
    categories: dict[int, str] = {}
    names = Once(f"{path}: category")
    for entry in entries:
        if not isinstance(entry, dict) or not is_integer(entry.get("id")) or not entry.get("name"):
            raise ValueError(f"{path}: category {reprlib.repr(entry)} has no id (a whole number) and name")
        if entry["id"] in categories:
            raise ValueError(f"{path}: category id {entry['id']} is listed twice; remove one of the two")
        names.check(str(entry["name"]))
        categories[entry["id"]] = str(entry["name"])
    if not categories:
        raise ValueError(f"{path} names no category")
    return categories


def _read_segments(segments: Segments, record: Record) -> Mapping[int, Tensor]:
    if str(record.path) not in segments:
        return {}
    coded: dict[int, list[Any]] = {}
    for label, size, shape in pickle.loads(segments[str(record.path)]):
        coded.setdefault(label, []).append((code_size(size, shape), shape))
    try:
        for height, width in {size for parts in coded.values() for size, _ in parts}:
            if height * width > LARGE and (height, width) not in _sizes(record.path):
                raise ValueError(f"it is {height} x {width} pixels (height, width), and the image is not")
        return {label: decode_shapes(parts) for label, parts in coded.items()}
    except UnreadableError:
        raise
    except Exception as error:  # the shapes are checked; what pycocotools may still raise is not documented
        raise UnreadableError(
            f"a segmentation of image {record.path} in {record.segmentation} cannot be decoded ({error})"
        ) from error


def _sizes(path: Path) -> set[Size]:
    header = read_header(path)
    return {header.size(displayed=False), header.size(displayed=True)}


def _shown(entry: Any) -> Any:
    return reprlib.repr(entry["id"] if isinstance(entry, dict) and "id" in entry else entry)
