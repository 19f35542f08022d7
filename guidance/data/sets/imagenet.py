"""Subsets of ImageNet (Russakovsky et al. 2015) in its own layout: ImageNet-100, ImageWoof and Hard-ImageNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.decode import read_object_segments
from guidance.data.reading.files import Listing, Once, read_text
from guidance.data.reading.xml_files import XMLAnnotation, read_xml_annotation
from guidance.data.sets.folders import (
    Item,
    Part,
    check_masks,
    choose_items,
    find_part,
    list_items,
    mask_path,
    read_items,
)
from guidance.data.source import Record, Source, check_on_error, layout_error

# WordNet id -> class name, in the order of the classes.
WOOF: Mapping[str, str] = {
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}
HARD: Mapping[str, str] = {
    "n02492660": "howler monkey",
    "n02777292": "balance beam",
    "n02807133": "swimming cap",
    "n03218198": "dog sled",
    "n03535780": "horizontal bar",
    "n03770439": "miniskirt",
    "n03899768": "patio",
    "n04019541": "hockey puck",
    "n04162706": "seat belt",
    "n04228054": "ski",
    "n04251144": "snorkel",
    "n04264628": "space bar",
    "n04356056": "sunglasses",
    "n04540053": "volleyball",
    "n09835506": "baseball player",
}

_IMAGES = """
ROOT/
  train/<WordNet id>/<image>.JPEG
  val/<WordNet id>/<image>.JPEG       the test split, unless there is a folder test
  bboxes/train/<WordNet id>/<image>.xml   optional, ImageNet's boxes
  bboxes/val/<image>.xml                  optional; folders of WordNet ids are allowed
"""
_SOURCE = "from https://image-net.org (ILSVRC 2012; the boxes are a download of their own)\n"
TREE_100 = f"""{_IMAGES}  imagenet100.txt                     data.class_list: one WordNet id per line, a name may follow
{_SOURCE}"""
TREE_WOOF = f"{_IMAGES}from https://github.com/fastai/imagenette (imagewoof2), or the ten folders of ILSVRC 2012\n"
TREE_HARD = f"""{_IMAGES}  masks/{{train,val}}/<WordNet id>/<image>.png   not black where the object is
{_SOURCE}and, the masks, https://github.com/mmoayeri/HardImageNet (put them into folders as above)
"""


class _Subset(NamedTuple):
    """Some classes of ImageNet."""

    name: str  # of the data set
    classes: Mapping[str, str]  # WordNet id -> class name, in the order of the classes
    tree: str  # the layout that errors show
    masks: Path | None = None  # folder of masks of the objects


def load_imagenet100(
    root: str | Path,
    split: str,
    *,
    class_list: str = "imagenet100.txt",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """Split "train", "val" or "test" of the classes in `class_list` (any number of them), single-label.

    `class_list`: a file in `root`, or else a path, with a WordNet id in each line and optionally a name after
    it. `root` may hold more classes, such as all of ImageNet. "test" is ImageNet's validation folder, and "val" is held
    out from its training images (see `splits.train_or_val`). Boxes are ImageNet's, where `root` has them; they count
    from 0 and are taken as they are. `on_error` "skip" leaves out and counts images with a faulty box file.
    """
    paths = (Path(root) / class_list, Path(class_list))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise layout_error("imagenet100", paths[0], TREE_100)
    subset = _Subset("imagenet100", _read_class_list(path), TREE_100)
    return _load(subset, Path(root), split, val_fraction, split_seed, on_error)


def load_imagewoof(
    root: str | Path, split: str, *, val_fraction: float = 0.2, split_seed: int = 0, on_error: str = "raise"
) -> Source:
    """Split "train", "val" or "test" of ImageWoof: ten breeds of dogs; otherwise as `load_imagenet100`."""
    return _load(_Subset("imagewoof", WOOF, TREE_WOOF), Path(root), split, val_fraction, split_seed, on_error)


def load_hard_imagenet(
    root: str | Path, split: str, *, val_fraction: float = 0.2, split_seed: int = 0, on_error: str = "raise"
) -> Source:
    """Split "train", "val" or "test" of Hard-ImageNet (Moayeri et al. 2022): 15 classes with masks of the objects.

    Otherwise as `load_imagenet100`. An image without a mask is used without one; a mask without an image is a fault.
    """
    masks = Path(root) / "masks"
    if not masks.is_dir():
        raise layout_error("hard_imagenet", masks, TREE_HARD)
    subset = _Subset("hard_imagenet", HARD, TREE_HARD, masks)
    return _load(subset, Path(root), split, val_fraction, split_seed, on_error)


def _load(subset: _Subset, root: Path, split: str, val_fraction: float, split_seed: int, on_error: str) -> Source:
    check_on_error(on_error)
    name, classes, tree, masks = subset
    part = find_part(root, split, name, tree, ignore=("bboxes", "masks"), val_is_test=True)
    for folder in classes:
        if not (part.folder / folder).is_dir():
            raise layout_error(name, part.folder / folder, tree)
    listing = Listing()

    def annotate(item: Item) -> Record:
        objects, size = _annotation(root / "bboxes", part, item, listing)
        boxes = tuple(found.box for found in objects)
        mask = mask_path(masks, part, item) if masks else None
        segmentation = mask if mask and mask in listing else None
        return Record(item.path, (item.label,), boxes, (item.label,) * len(boxes), segmentation, size=size)

    labels = {folder: label for label, folder in enumerate(classes)}
    images, left_alone = list_items(part, labels)
    problems = check_masks(masks, part, images, on_error) if masks else []
    items = choose_items(images, part, split, fraction=val_fraction, seed=split_seed)
    records, faulty = read_items(items, annotate, on_error)
    if part.is_held_out(split):
        problems, left_alone = [], 0
    problems += faulty
    return Source(
        name=name,
        split=split,
        classes=tuple(classes.values()),
        records=records,
        single_label=True,
        read_segments=partial(read_object_segments, threshold=1) if masks else None,
        skipped=len(problems),
        problems=tuple(problems),
        left_alone=left_alone,
    )


def _annotation(folder: Path, part: Part, item: Item, listing: Listing) -> XMLAnnotation:
    for name in (item.name, item.path.name):
        path = (folder / part.folder.name / name).with_suffix(".xml")
        if path in listing:
            wanted = {item.path.parent.name: item.label}
            return read_xml_annotation(path, wanted, "the image's own")
    return XMLAnnotation([], None)


def _read_class_list(path: Path) -> dict[str, str]:
    """WordNet id -> name (the id itself where the line has none)."""
    classes: dict[str, str] = {}
    once = Once(f"{path}: class")
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        wnid, _, name = line.strip().partition(" ")
        if not wnid or wnid.startswith("#"):
            continue
        if not re.fullmatch(r"n\d{8}", wnid):
            raise ValueError(f"line {number} of {path} is {line!r}, expected a WordNet id such as n01440764")
        once.check(wnid)
        classes[wnid] = name.strip() or wnid
    if not classes:
        raise ValueError(f"{path} names no class; expected one WordNet id per line")
    return classes
