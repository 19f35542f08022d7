"""Images of one's own, in one of three layouts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from guidance.data.reading.decode import read_object_segments
from guidance.data.reading.files import Listing
from guidance.data.sets.custom_files import NO_SPLITS, add_box, read_boxes, read_groups
from guidance.data.sets.folders import (
    Item,
    Part,
    check_masks,
    choose_items,
    class_folders,
    find_part,
    labels_of,
    list_items,
    mask_path,
    missing_folders,
    read_items,
)
from guidance.data.sets.instances import choose_pictures, read_instances, read_records, segment_reader
from guidance.data.source import Record, Source, check_on_error, fail_or_note, layout_error, lookup_split
from guidance.types import lookup

TREE = """
layout coco                          several classes in an image with data.multi_label: true
  ROOT/images/<file_name>
  ROOT/train.json, val.json, test.json   COCO's instances format; val.json may be absent, and then is held out from train
    or annotations.json              which is split into train and val
layout folders                       one class for each image
  ROOT/train/<class>/<image>.jpg
  ROOT/val/<class>/..., ROOT/test/<class>/...   optional; without val it is held out from train
  ROOT/boxes.csv                     optional: image,class,x0,y0,x1,y1[,never]; image such as train/<class>/<image>.jpg
layout masks                         as folders, and:
  ROOT/masks/train/<class>/<image>.png   not black where the object is
layout classes                       one split, "test", for nets that are only evaluated; never found by "auto"
  ROOT/<class>/<image>.jpg
all layouts but classes
  ROOT/groups.csv                    optional: image,group; image such as in boxes.csv, or a file_name of the JSON
"""


def load_custom(
    root: str | Path,
    split: str,
    *,
    layout: str = "auto",
    multi_label: bool = False,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """A split of one's own images. See `TREE` for the layouts; "auto" recognises them.

    "coco": `root`/images and a COCO JSON for each split; an annotation may come without a bbox (its class is there) or with
    "never": true (evidence for its class must not lie in its bbox). "folders": a folder per split and class, and optionally
    boxes.csv, in pixels and half-open, where `never` is 0 or 1. "masks": the same with a picture of the object for each
    image. "classes": a folder per class and no split but "test". Classes are those of the JSON in the order of their ids,
    or the training folders in alphabetical order. groups.csv puts each image into a group; groups are numbered in
    alphabetical order. Where "val" has no file or folder it is held out (see `splits.train_or_val`). `on_error` "skip"
    leaves out and counts images with faulty annotations, or whose file is missing, and annotations that belong to no image;
    "raise" makes them a ValueError.
    """
    check_on_error(on_error)
    root = Path(root)
    if layout == "auto":
        layout = _find_layout(root)
    load = lookup(LAYOUTS, layout, "layout of custom (data.layout)")
    if multi_label and layout != "coco":
        raise ValueError(f"data.multi_label: with the layout {layout!r} every image has one class; set it to false")
    source = load(root, split, val_fraction, split_seed, on_error)
    several = next((record for record in source.records if len(record.classes) > 1), None)
    if several is not None and not multi_label:
        raise ValueError(f"image {several.path} has {len(several.classes)} classes; set data.multi_label to true")
    return replace(source, single_label=not multi_label)


def _find_layout(root: Path) -> str:
    json = any((root / name).is_file() for name in ("train.json", "annotations.json"))
    folders = (root / "train").is_dir()
    if json and folders:
        raise ValueError(f"{root} holds a JSON file and a folder train; set data.layout to coco, folders or masks")
    if not json and not folders:
        raise layout_error("custom", root / ("train.json" if (root / "images").is_dir() else "train"), TREE)
    return "coco" if json else "masks" if (root / "masks").is_dir() else "folders"


def _load_coco(root: Path, split: str, fraction: float, seed: int, on_error: str) -> Source:
    files = _find_instances(root)
    train = files["train"]
    file = read_instances(lookup_split(files, split, "custom"))
    categories = read_instances(train).categories if file.path != train else file.categories
    if file.categories != categories:
        raise ValueError(f"{file.path} and {train} list different categories; both must hold the same ids and names")
    shared = file.path == train == files["val"]
    pictures, unlabelled, problems = choose_pictures(
        file, split, shared=shared, fraction=fraction, seed=seed, on_error=on_error
    )
    keys = sorted(categories)
    records, faulty, segments = read_records(
        pictures, file.path, root / "images", {key: label for label, key in enumerate(keys)}, on_error=on_error, boxless=True
    )  # fmt: skip
    groups = read_groups(root)
    names = [Path(os.path.relpath(record.path, root / "images")).as_posix() for record in records]
    groups.check(names)
    kept = []
    for record, name in zip(records, names, strict=True):
        try:
            kept.append(groups.put(record, name))
        except ValueError as error:
            faulty += fail_or_note(str(error), on_error)
    problems += faulty
    return Source(
        name="custom",
        split=split,
        classes=tuple(categories[key] for key in keys),
        records=tuple(kept),
        single_label=False,
        groups=groups.names,
        read_segments=segment_reader(segments),
        skipped=unlabelled + len(problems),
        problems=tuple(problems),
    )


def _find_instances(root: Path) -> dict[str, Path]:
    """Split -> its JSON; without a file of its own, "val" shares that of "train"."""
    files = {path.stem: path for path in sorted(root.glob("*.json"))}
    if "train" in files and "annotations" in files:
        raise ValueError(
            f"{root} holds train.json and annotations.json, which both list training images; remove annotations.json, or "
            "remove train.json to have annotations.json split into train and val"
        )
    train = files.pop("annotations", files.get("train"))
    if train is None or not (root / "images").is_dir():
        raise layout_error("custom", root / ("train.json" if train is None else "images"), TREE)
    return {"val": train, **files, "train": train}


def _load_folders(
    root: Path, split: str, fraction: float, seed: int, on_error: str, *, masks: Path | None = None
) -> Source:
    part = find_part(root, split, "custom", TREE, ignore=NO_SPLITS)
    classes = class_folders(root / "train")
    images, left_alone = list_items(part, labels_of(classes, part))
    groups, listing = read_groups(root), Listing()
    groups.check([f"{part.folder.name}/{item.name}" for item in images])
    boxes, problems = read_boxes(root, part.folder.name, classes, listing, on_error)
    if masks is not None:
        problems += check_masks(masks, part, images, on_error)

    def annotate(item: Item) -> Record:
        name = f"{part.folder.name}/{item.name}"
        record = Record(item.path, (item.label,))
        for line, row in boxes.get(name, ()):
            record = add_box(record, row, classes, f"line {line} of {root / 'boxes.csv'}")
        mask = mask_path(masks, part, item) if masks else None
        return groups.put(record._replace(segmentation=mask if mask and mask in listing else None), name)

    items = choose_items(images, part, split, fraction=fraction, seed=seed)
    records, faulty = read_items(items, annotate, on_error)
    if part.is_held_out(split):
        problems, left_alone = [], 0
    problems += faulty
    return Source(
        name="custom",
        split=split,
        classes=classes,
        records=records,
        single_label=True,
        groups=groups.names,
        read_segments=partial(read_object_segments, threshold=1) if masks else None,
        skipped=len(problems),
        problems=tuple(problems),
        left_alone=left_alone,
        gaps=missing_folders(part, classes),
    )


def _load_classes(root: Path, split: str, fraction: float, seed: int, on_error: str) -> Source:
    if not root.is_dir():
        raise layout_error("custom", root, TREE)
    part = lookup_split({"test": Part(root, False)}, split, "custom with the layout classes")
    classes = class_folders(root)
    images, left_alone = list_items(part, labels_of(classes, part))
    records = tuple(Record(item.path, (item.label,)) for item in images)
    return Source("custom", split, classes, records, True, left_alone=left_alone, gaps=missing_folders(part, classes))


def _load_masks(root: Path, split: str, fraction: float, seed: int, on_error: str) -> Source:
    if not (root / "masks").is_dir():
        raise layout_error("custom", root / "masks", TREE)
    return _load_folders(root, split, fraction, seed, on_error, masks=root / "masks")


LAYOUTS: Mapping[str, Callable[[Path, str, float, int, str], Source]] = {
    "coco": _load_coco,
    "folders": _load_folders,
    "masks": _load_masks,
    "classes": _load_classes,
}
