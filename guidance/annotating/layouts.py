"""Where the images lie, and where the JSON that is edited is or shall be."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from guidance.data import Record, Source
from guidance.data.formats import AnnotatedImage, AnnotatedObject, Annotations
from guidance.data.formats.custom_json import write_custom_json
from guidance.data.formats.geometry import encode_mask
from guidance.data.formats.splits import link_images
from guidance.data.reading.decode import UnreadableError, read_header
from guidance.data.reading.files import is_image
from guidance.data.sets.custom import load_custom
from guidance.data.sets.folders import subfolders

LOG = logging.getLogger(__name__)
MAIN = ("train", "annotations")  # the file that images go to which no file lists


class Place(NamedTuple):
    """A data set in the layout "coco" of `data.name: custom`."""

    root: Path  # holds the JSON files, and groups.csv if there are groups
    images: Path
    files: tuple[Path, ...]  # the one for new images first


def find_place(data: Path, output: Path | None = None, classes: Sequence[str] = ()) -> Place:
    """The place of the set in `data`, which is made where there is none.

    `data` may have that layout already; its images alone in a folder "images"; or be a folder for each class, folders for
    splits and classes (with boxes.csv, masks and groups.csv), or images in no folder. The latter get a set in `output`, by
    default `data`_annotated beside it, whose folder of images is a link to `data`, and which keeps what was known: classes,
    boxes, masks and groups. `classes`: names for a set that has none yet. ValueError where there is nothing to annotate.
    """
    if not data.is_dir():
        raise ValueError(f"{data} is no folder; expected a folder of images, or a data set of your own")
    if (data / "images").is_dir() and not (data / "train").is_dir():
        return _place(data, classes)
    data = data.resolve()
    root = output or data.with_name(f"{data.name}_annotated")
    if not any(root.glob("*.json")):
        root.mkdir(parents=True, exist_ok=True)
        annotations = _read(data)
        if annotations.classes:
            write_custom_json(annotations, data, root)
            if (data / "groups.csv").is_file():
                shutil.copy2(data / "groups.csv", root / "groups.csv")
        else:
            link_images(data, root / "images")
    return _place(root, classes)


def _place(root: Path, classes: Sequence[str]) -> Place:
    if not any(root.glob("*.json")):
        if not classes:
            raise ValueError(
                f"{root} names no class yet; say which there are with --classes, such as --classes cat dog"
            )
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": n} for i, n in enumerate(classes, 1)],
        }
        (root / "annotations.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    files = sorted(root.glob("*.json"), key=lambda path: (path.stem not in MAIN, path.stem))
    return Place(root, root / "images", tuple(files))


def _read(data: Path) -> Annotations:
    """What is known of images in folders."""
    splits = (data / "train").is_dir()
    if splits:
        names = [name for name in subfolders(data) if name not in ("images", "masks")]
        sources = [(name, load_custom(data, name, val_fraction=0.0)) for name in names]
    elif any(is_image(path) for path in data.iterdir()):
        return Annotations((), (), {}, ())
    else:
        sources = [("", load_custom(data, "test", layout="classes"))]
    images = []
    for split, source in sources:
        for record in source.records:
            try:
                images.append(_image(record, source, data, split))
            except UnreadableError as error:
                LOG.warning("left out: %s", error)
    if not images:
        raise ValueError(f"{data} holds no image")
    return Annotations(sources[0][1].classes, tuple(images), {}, ())


def _image(record: Record, source: Source, data: Path, split: str) -> AnnotatedImage:
    segments = {} if source.read_segments is None else source.read_segments(record)
    objects = [
        AnnotatedObject(source.classes[k], None, encode_mask(segments[k].numpy()) if k in segments else None)
        for k in record.classes
    ]
    for boxes, labels, never in (
        (record.boxes, record.box_classes, False),
        (record.never_boxes, record.never_classes, True),
    ):
        objects += [AnnotatedObject(source.classes[k], box, None, never) for box, k in zip(boxes, labels, strict=True)]
    size = read_header(record.path).size(displayed=False)
    return AnnotatedImage(record.path.relative_to(data).as_posix(), size, tuple(objects), split)
