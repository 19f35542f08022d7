"""COCO detection (Lin et al. 2014), the releases of 2014 and 2017, in the layout of the official downloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guidance.data.sets.instances import (
    Instances,
    Picture,
    choose_pictures,
    read_instances,
    read_records,
    segment_reader,
)
from guidance.data.source import NoSplitError, Source, check_on_error, layout_error, lookup_split

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
GAPS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))  # category ids between 1 and 90 that name nothing
LABELS: Mapping[int, int] = {key: label for label, key in enumerate(k for k in range(1, 91) if k not in GAPS)}

TREE = """
ROOT/
  annotations/instances_train<year>.json
  annotations/instances_val<year>.json
  annotations/train2014_train_split.json   optional, with train2014_val_split.json: the split of Rao et al. 2023
  train<year>/<image>.jpg                  2014: COCO_train2014_000000000009.jpg; 2017: 000000000009.jpg
  val<year>/<image>.jpg
from https://cocodataset.org/#download; the two split files from https://github.com/sukrutrao/Model-Guidance
"""


class _Part(NamedTuple):
    """Where a split lies: an instances file, a folder, and whether `train_or_val` takes a share of it."""

    annotation: Path
    images: str
    shared: bool


def load_coco(
    root: str | Path,
    split: str,
    *,
    year: str = "2014",
    crowd: bool = True,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """A split of COCO <year>: 80 classes, multi-label, boxes and segmentations.

    "train" and "val" share the official training images: as the two published split files say where they are there
    (73,872 and 8,209 images of 2014), else `val_fraction` of the labelled images is held out (see
    `splits.train_or_val`). "test" is the official validation set. "train<year>" and "val<year>" are the official sets as
    they are. `crowd`: annotations of crowds count, as in the published code; otherwise they are neither labels nor
    boxes nor segmentations. One that you mark "never": true says where evidence for its class must not lie. Images without any
    label are left out and counted. `on_error` "skip" leaves out and counts images with a faulty annotation, or whose
    file is missing; "raise" makes them a ValueError. COCO has a few boxes without width or height: they are found when
    the image is read, so training on all of it needs "skip".
    """
    check_on_error(on_error)
    root = Path(root)
    part = _find_part(root, split, year)
    file = read_instances(part.annotation)
    _check_categories(file)
    if not crowd:
        file = file._replace(pictures=[_without_crowds(picture) for picture in file.pictures])
    chosen, unlabelled, problems = choose_pictures(
        file, split, shared=part.shared, fraction=val_fraction, seed=split_seed, on_error=on_error
    )
    records, faulty, segments = read_records(chosen, file.path, root / part.images, LABELS, on_error=on_error)
    return Source(
        name="coco",
        split=split,
        classes=CLASSES,
        records=tuple(records),
        single_label=False,
        read_segments=segment_reader(segments),
        skipped=unlabelled + len(problems) + len(faulty),
        problems=(*problems, *faulty),
    )


def _find_part(root: Path, split: str, year: str) -> _Part:
    train, val = f"train{year}", f"val{year}"
    folder = root / "annotations"
    official = {name: _Part(folder / f"instances_{name}.json", name, False) for name in (train, val)}
    published = {part: folder / f"{train}_{part}_split.json" for part in ("train", "val")}
    parts = {"train": official[train]._replace(shared=True), "val": official[train]._replace(shared=True)}
    # With one of the two files alone the splits could overlap: the other is then missed, not replaced.
    if any(path.is_file() for path in published.values()):
        parts = {part: _Part(path, train, False) for part, path in published.items()}
    found = lookup_split({**parts, "test": official[val], **official}, split, f"coco {year}")
    for path in (found.annotation, root / found.images):
        if not path.exists():
            error = layout_error("coco", path, TREE)
            # COCO's annotations are one download for all splits, so it is the images that tell which of them are there.
            raise error if (root / found.images).exists() else NoSplitError(str(error))
    return found


def _check_categories(file: Instances) -> None:
    for key, name in file.categories.items():
        if key not in LABELS or CLASSES[LABELS[key]] != name:
            raise ValueError(
                f"{file.path}: category {key} is {name!r}, but COCO's is "
                f"{CLASSES[LABELS[key]] if key in LABELS else None!r}; for classes of your own use data.name: custom"
            )


def _without_crowds(picture: Picture) -> Picture:
    return picture._replace(annotations=[entry for entry in picture.annotations if not entry.get("iscrowd")])
