"""PASCAL VOC detection (Everingham et al. 2010), any year, in the layout of VOCdevkit."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from guidance.data.decode import read_class_map_segments
from guidance.data.source import Record, Source, check_on_error, fail_or_count, layout_error

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}

TREE = """
ROOT/VOCdevkit/VOC<year>/          (ROOT may also be VOCdevkit or VOC<year> itself)
  ImageSets/Main/<split>.txt       one image id per line
  Annotations/<id>.xml
  JPEGImages/<id>.jpg
  SegmentationClass/<id>.png       optional, for segmentation metrics
from http://host.robots.ox.ac.uk/pascal/VOC/
"""


class _Object(NamedTuple):
    label: int
    box: tuple[float, float, float, float]
    difficult: bool


def load_voc(
    root: str | Path, split: str, *, year: str = "2007", difficult: bool = True, on_error: str = "raise"
) -> Source:
    """Split `split` ("train", "val", "trainval" or "test") of VOC<year>: 20 classes, multi-label.

    XML boxes are 1-based and inclusive; here x0 = xmin - 1 and x1 = xmax (the published code does not shift them).
    `difficult`: keep objects marked so, as published; otherwise they count neither as boxes nor as labels, and an image
    that has no others is left out and counted. `on_error` "skip" leaves out and counts images whose annotation is
    missing, malformed, empty, or names an unknown class; "raise" makes them a ValueError that names the file.
    """
    check_on_error(on_error)
    folder = _find_folder(Path(root), year)
    segmentations = {path.stem for path in (folder / "SegmentationClass").glob("*.png")}
    records, skipped = [], 0
    for name in _image_ids(folder, split):
        annotation = folder / "Annotations" / f"{name}.xml"
        try:
            objects = _read_objects(annotation)
        except ValueError as error:
            skipped += fail_or_count(str(error), on_error)
            continue
        if not difficult:
            objects = [item for item in objects if not item.difficult]
        if not objects:
            skipped += 1
            continue
        records.append(
            Record(
                path=folder / "JPEGImages" / f"{name}.jpg",
                classes=tuple(sorted({item.label for item in objects})),
                boxes=tuple(item.box for item in objects),
                box_classes=tuple(item.label for item in objects),
                segmentation=folder / "SegmentationClass" / f"{name}.png" if name in segmentations else None,
            )
        )
    return Source(
        name="voc",
        split=split,
        classes=CLASSES,
        records=tuple(records),
        single_label=False,
        read_segments=read_class_map_segments if segmentations else None,
        skipped=skipped,
    )


def _find_folder(root: Path, year: str) -> Path:
    candidates = (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}")
    for folder in candidates:
        if folder.is_dir():
            return folder
    if root.name == f"VOC{year}" and root.is_dir():
        return root
    raise layout_error("voc", candidates[0], TREE)


def _image_ids(folder: Path, split: str) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        splits = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        if splits:
            raise ValueError(f"voc has no split {split!r} ({path} does not exist); splits there: {', '.join(splits)}")
        raise layout_error("voc", path, TREE)
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def _read_objects(path: Path) -> list[_Object]:
    """The objects of one annotation file; ValueError where it is missing, malformed, or without objects."""
    try:
        tree = ElementTree.parse(path)
    except FileNotFoundError as error:
        raise ValueError(f"annotation {path} does not exist; add it or remove the id from the split") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"annotation {path} is not well-formed XML ({error}); correct the file") from error
    objects = [_read_object(node, path) for node in tree.getroot().findall("object")]
    if not objects:
        raise ValueError(f"annotation {path} has no objects, so its image has no label; remove the id from the split")
    return objects


def _read_object(node: ElementTree.Element, path: Path) -> _Object:
    name = (node.findtext("name") or "").strip()
    if name not in _CLASS_INDEX:
        raise ValueError(f"class {name!r} in {path} is not one of VOC's 20: {', '.join(CLASSES)}")
    try:
        xmin, ymin, xmax, ymax = (float(node.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise ValueError(
            f"an object {name!r} in {path} has no <bndbox> with numbers xmin, ymin, xmax and ymax; correct the file"
        ) from error
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    return _Object(_CLASS_INDEX[name], (xmin - 1, ymin - 1, xmax, ymax), difficult)
