"""COCO JSON: the layout that `data.name: custom` reads, and any other file in the format of COCO's instances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.pictures import Pictures, settle
from guidance.data.formats.splits import link_images, split_name
from guidance.data.reading.files import as_box, box_from_size, is_integer
from guidance.data.sets.instances import Picture, read_instances

EMPTY: tuple[Any, ...] = (None, "", {}, [], [[]])  # segmentations that say nothing


def read_custom_json(source: Path, images: Path) -> Annotations:
    """A JSON file, or a folder with train.json, val.json and test.json or annotations.json. Classes in the order of ids."""
    pictures, remarks = Pictures(images), Remarks()
    files = [source] if source.is_file() else sorted(source.glob("*.json"))
    if not files:
        raise ValueError(f"{source} holds no .json; --from coco expects such a file, or the folder of train.json")
    files.sort(key=lambda path: (path.stem != "train", path.stem != "val", path.stem))
    found: dict[str, AnnotatedImage] = {}
    names: dict[int, str] = {}
    for path in files:
        instances = read_instances(path)
        if names and instances.categories != names:
            raise ValueError(f"{path} and {files[0]} list different categories; both must hold the same ids and names")
        names = instances.categories
        for stray in instances.strays:
            remarks.fault(stray)
        split = "" if path.stem == "annotations" or len(files) == 1 else path.stem
        for picture in instances.pictures:
            _add(found, picture, names, split, pictures, remarks)
    pictures.tell_unnamed(remarks)
    classes = tuple(names[key] for key in sorted(names))
    return Annotations(classes, tuple(found.values()), remarks.lost, remarks.faults)


def _add(
    found: dict[str, AnnotatedImage],
    picture: Picture,
    names: Mapping[int, str],
    split: str,
    pictures: Pictures,
    remarks: Remarks,
) -> None:
    """Add an image with its objects to `found`, or say what is wrong with it."""
    try:
        name = pictures.find(picture.name)
        header = pictures.header(name)
    except ValueError as error:
        remarks.fault(str(error))
        return
    if name in found:
        remarks.fault(f"image {name} is listed twice; remove one of the two")
        return
    objects = []
    for entry in picture.annotations:
        try:
            objects.append(_read_object(entry, names, name, remarks))
        except ValueError as error:
            remarks.fault(f"annotation {entry.get('id')} of image {name} {error}")
    height, width = picture.size
    told = (height, width) if is_integer(height) and is_integer(width) else None
    settled = settle(name, objects, header, told, False, remarks)
    found[name] = AnnotatedImage(name, settled.size, settled.objects, split)


def _read_object(entry: Mapping[str, Any], names: Mapping[int, str], image: str, remarks: Remarks) -> AnnotatedObject:
    category, bbox, shape = (entry.get(key) for key in ("category_id", "bbox", "segmentation"))
    if not is_integer(category) or category not in names:
        raise ValueError(f"has category_id {category!r}, which is not among the categories")
    for key in ("keypoints", "attributes"):
        if entry.get(key):
            remarks.lose(key, image)
    if entry.get("iscrowd"):
        remarks.lose("marks 'iscrowd'", image)
    box = None if bbox is None else box_from_size(as_box(bbox, "has a bbox that"))
    return AnnotatedObject(names[category], box, None if shape in EMPTY else shape, entry.get("never") is True)


def write_custom_json(annotations: Annotations, images: Path, output: Path) -> dict[str, tuple[str, ...]]:
    """`output`/images (see `link_images`), and a JSON for each split, or annotations.json, which is split when it is read.

    Nothing is lost. Sets with splits but without one to train on are written as a single annotations.json where they have one
    split, and are a ValueError where they have several.
    """
    splits = {split_name(image.split) for image in annotations.images}
    remarks = Remarks()
    if len(splits) > 1 and "train" not in splits:
        raise ValueError(f"none of the splits {', '.join(sorted(splits))} is called train; rename the one to train on")
    if len(splits) > 1 and "" in splits:
        for image in annotations.images:
            if not image.split:
                remarks.lose("images that are in no split, left out", image.name)
    link_images(images, output / "images")
    for split in sorted(splits - {""}) if len(splits) > 1 else splits:
        chosen = [image for image in annotations.images if split_name(image.split) == split]
        name = split if len(splits) > 1 or split == "train" else "annotations"
        text = json.dumps(describe(annotations.classes, chosen), indent=1, ensure_ascii=False)
        (output / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return remarks.lost


def describe(classes: tuple[str, ...], images: list[AnnotatedImage]) -> dict[str, Any]:
    """The content of a COCO JSON; ids count from 1."""
    keys = {name: key for key, name in enumerate(classes, 1)}
    entries: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        for item in image.objects:
            entry: dict[str, Any] = {"id": len(entries) + 1, "image_id": number, "category_id": keys[item.label]}
            if item.box is not None:
                x0, y0, x1, y1 = item.box
                entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            if item.segmentation is not None:
                entry["segmentation"] = item.segmentation
            entries.append(entry | ({"never": True} if item.never else {}))
    return {
        "images": [
            {"id": number, "file_name": image.name, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(images, 1)
        ],
        "annotations": entries,
        "categories": [{"id": key, "name": name} for name, key in keys.items()],
    }
