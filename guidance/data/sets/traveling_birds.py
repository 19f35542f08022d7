"""TravelingBirds (Koh et al. 2020): birds of CUB-200-2011 before scenes that give the species away in training only."""

from __future__ import annotations

from pathlib import Path

from guidance.data.sets.cub_files import Segmentations, bird_names, find_cub, read_boxes, read_table
from guidance.data.sets.folders import (
    Item,
    choose_items,
    class_folders,
    find_part,
    labels_of,
    list_items,
    missing_folders,
    read_items,
)
from guidance.data.source import Record, Source, check_on_error

TREE = """
ROOT/
  CUB_fixed/                               (ROOT may also be this folder)
    train/<class folder>/<image>.jpg
    val/...                                optional; otherwise held out from train
    test/<class folder>/<image>.jpg        and any other, such as test_black
  CUB_200_2011/                            may also lie beside ROOT
    images.txt, bounding_boxes.txt         from CUB-200-2011
    segmentations/<class folder>/<image>.png   optional; may also lie beside CUB_200_2011
from https://worksheets.codalab.org (TravelingBirds of "Concept Bottleneck Models") and
https://www.vision.caltech.edu/datasets/cub_200_2011/
"""


def load_traveling_birds(
    root: str | Path, split: str, *, val_fraction: float = 0.2, split_seed: int = 0, on_error: str = "raise"
) -> Source:
    """Split "train", "val", "test" or that of another folder of TravelingBirds: 200 classes, single-label.

    Boxes and segmentations are CUB's, found by class folder and file name, so the images must have CUB's size. "val" is
    held out from the training images where it has no folder (see `splits.train_or_val`). `on_error` "skip" leaves out
    and counts images that CUB does not know or whose box is faulty; "raise" makes them a ValueError.
    """
    check_on_error(on_error)
    root = Path(root)
    folder = root / "CUB_fixed" if (root / "CUB_fixed").is_dir() else root
    part = find_part(folder, split, "traveling_birds", TREE, ignore=("CUB_200_2011", "segmentations"))
    cub = find_cub((root.parent, folder, root), "traveling_birds", TREE)
    images, boxes = _image_ids(cub), read_boxes(cub, "traveling_birds", TREE)
    segmentations = Segmentations(cub)
    names = class_folders(folder / "train")

    def annotate(item: Item) -> Record:
        name = Path(item.name).with_suffix("").as_posix()
        if name not in images:
            raise ValueError(f"{item.path} is no image of CUB: {item.name} is not in {cub / 'images.txt'}")
        box, segmentation = boxes.box(images[name]), segmentations.find(item.name)
        return Record(item.path, (item.label,), (box,), (item.label,), segmentation)

    pictures, left_alone = list_items(part, labels_of(names, part))
    items = choose_items(pictures, part, split, fraction=val_fraction, seed=split_seed)
    records, problems = read_items(items, annotate, on_error)
    return Source(
        name="traveling_birds",
        split=split,
        classes=bird_names(names),
        records=records,
        single_label=True,
        read_segments=segmentations.read,
        skipped=len(problems),
        problems=tuple(problems),
        left_alone=0 if part.is_held_out(split) else left_alone,
        gaps=missing_folders(part, names),
    )


def _image_ids(cub: Path) -> dict[str, int]:
    """<class folder>/<image> without suffix -> id."""
    table = read_table(cub / "images.txt", ("img_id", "image"), "traveling_birds", TREE)
    return {Path(table.row(image)[0]).with_suffix("").as_posix(): image for image in table.lines}
