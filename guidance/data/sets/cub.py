"""CUB-200-2011 (Wah et al. 2011): 200 species of birds, with a box and, released later, a segmentation of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.files import Listing, Once
from guidance.data.sets.cub_files import Segmentations, Table, bird_names, find_cub, read_boxes, read_table
from guidance.data.source import Record, Source, check_on_error, fail_or_note, lookup_split
from guidance.data.splits import train_or_val

SPLITS: Mapping[str, int] = {"train": 1, "val": 1, "test": 0}  # is_training_image

TREE = """
ROOT/CUB_200_2011/                   (ROOT may also be CUB_200_2011 itself)
  images.txt                         img_id <class folder>/<image>.jpg
  image_class_labels.txt             img_id class_id
  train_test_split.txt               img_id is_training_image
  bounding_boxes.txt                 img_id x y width height
  classes.txt                        class_id <class folder>
  images/<class folder>/<image>.jpg
  segmentations/<class folder>/<image>.png   optional; may also lie beside CUB_200_2011
from https://www.vision.caltech.edu/datasets/cub_200_2011/ (images and segmentations are two downloads)
"""


class _Tables(NamedTuple):
    names: Table
    labels: Table
    training: Table
    boxes: Table


def load_cub(
    root: str | Path, split: str, *, val_fraction: float = 0.2, split_seed: int = 0, on_error: str = "raise"
) -> Source:
    """Split "train", "val" or "test" of CUB: 200 classes, single-label, a box and a segmentation for each image.

    "val" is held out from the 5,994 official training images, by default 20 % of each class (see
    `splits.train_or_val`). The foreground of a segmentation is where its grey value is at least 128. `on_error` "skip"
    leaves out and counts images whose lines are missing or faulty or whose file is missing; "raise" makes them a
    ValueError. A file without its columns is always one.
    """
    check_on_error(on_error)
    wanted = lookup_split(SPLITS, split, "cub")
    root = Path(root)
    cub = find_cub((root, root.parent) if root.name == "CUB_200_2011" else (root,), "cub", TREE)
    classes = read_table(cub / "classes.txt", ("class_id", "class"), "cub", TREE)
    folders = [classes.row(key)[0] for key in range(1, len(classes.lines) + 1)]
    tables = _Tables(
        names=read_table(cub / "images.txt", ("img_id", "image"), "cub", TREE),
        labels=read_table(cub / "image_class_labels.txt", ("img_id", "class_id"), "cub", TREE),
        training=read_table(cub / "train_test_split.txt", ("img_id", "is_training_image"), "cub", TREE),
        boxes=read_boxes(cub, "cub", TREE),
    )
    segmentations, listing, once = Segmentations(cub), Listing(), Once("cub: image")
    records: list[Record] = []
    problems: list[str] = []
    for image in tables.names.lines:
        try:
            if tables.training.integer(image, (0, 1)) != wanted:
                continue
            record = _read_record(image, cub, tables, len(folders), listing, segmentations)
            once.check(record.path)
            records.append(record)
        except ValueError as error:
            problems += fail_or_note(str(error), on_error)
    if split != "test":
        names = [f"{record.path.parent.name}/{record.path.name}" for record in records]
        labels = [record.classes[0] for record in records]
        records = train_or_val(records, split, names=names, fraction=val_fraction, seed=split_seed, classes=labels)
        problems = problems if split == "train" else []  # a faulty image is counted once
    return Source(
        name="cub",
        split=split,
        classes=bird_names(folders),
        records=tuple(records),
        single_label=True,
        read_segments=segmentations.read,
        skipped=len(problems),
        problems=tuple(problems),
    )


def _read_record(
    image: int, cub: Path, tables: _Tables, classes: int, listing: Listing, segmentations: Segmentations
) -> Record:
    (name,) = tables.names.row(image)
    label = tables.labels.integer(image, range(1, classes + 1)) - 1
    box = tables.boxes.box(image)
    path = listing.require_image(cub / "images" / name)
    return Record(path, (label,), (box,), (label,), segmentation=segmentations.find(name))
