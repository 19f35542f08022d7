"""PASCAL VOC detection (Everingham et al. 2010), any year, in the layout of VOCdevkit."""

from __future__ import annotations

from pathlib import Path

from guidance.data.reading.decode import read_class_map_segments
from guidance.data.reading.files import Box, Listing, Once, read_text
from guidance.data.reading.xml_files import read_xml_annotation
from guidance.data.source import NoSplitError, Record, Source, check_on_error, fail_or_note, layout_error

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


def load_voc(
    root: str | Path, split: str, *, year: str = "2007", difficult: bool = True, on_error: str = "raise"
) -> Source:
    """Split `split` ("train", "val", "trainval" or "test") of VOC<year>: 20 classes, multi-label.

    XML boxes are 1-based and inclusive; here x0 = xmin - 1 and x1 = xmax (the published code does not shift them).
    `difficult`: keep objects marked so, as in the published code; otherwise they count neither as boxes nor as labels, and an
    image that has no others is left out and counted. `on_error` "skip" leaves out and counts images whose annotation is
    missing, malformed, empty, or names an unknown class; "raise" makes them a ValueError that names the file.
    """
    check_on_error(on_error)
    folder = _find_folder(Path(root), year)
    segmentations = {path.stem for path in (folder / "SegmentationClass").glob("*.png")}
    records, unlabelled, listing, once = [], 0, Listing(), Once("voc: image")
    problems: list[str] = []
    for name in _image_ids(folder, split):
        try:
            once.check(name)
            path = listing.require_image(folder / "JPEGImages" / f"{name}.jpg")
            objects, size = read_xml_annotation(folder / "Annotations" / f"{name}.xml", _CLASS_INDEX, "VOC's 20")
        except ValueError as error:
            problems += fail_or_note(str(error), on_error)
            continue
        if not difficult:
            objects = [item for item in objects if not item.difficult]
        if not objects:
            unlabelled += 1
            continue
        records.append(
            Record(
                path=path,
                classes=tuple(sorted({item.label for item in objects})),
                boxes=tuple(_half_open(item.box) for item in objects),
                box_classes=tuple(item.label for item in objects),
                segmentation=folder / "SegmentationClass" / f"{name}.png" if name in segmentations else None,
                size=size,
            )
        )
    return Source(
        name="voc",
        split=split,
        classes=CLASSES,
        records=tuple(records),
        single_label=False,
        read_segments=read_class_map_segments if segmentations else None,
        skipped=unlabelled + len(problems),
        problems=tuple(problems),
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
            raise NoSplitError(f"voc has no split {split!r} ({path} does not exist); splits there: {', '.join(splits)}")
        raise layout_error("voc", path, TREE)
    return [line.split()[0] for line in read_text(path).splitlines() if line.strip()]


def _half_open(box: Box) -> Box:
    xmin, ymin, xmax, ymax = box
    return xmin - 1, ymin - 1, xmax, ymax
