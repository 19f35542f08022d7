"""Tiny stand-ins of every data set in its official layout: pictures of 20 x 30 pixels, objects in `BOX`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidance.data.sets.imagenet import HARD, WOOF
from tests.support.data.pictures import Box, write_picture

HEIGHT, WIDTH = 20, 30
BOX: Box = (2, 3, 12, 11)
X, Y, W, H = 2, 3, 10, 8
SPECIES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
TRAIN, TEST = 10, 4  # images of each class

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
    "<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)


@dataclass(frozen=True)
class Layout:
    """How to make and load a stand-in; `counts` are the images of its splits."""

    name: str
    make: Callable[[Path], None]
    counts: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()  # without this file or folder the test split cannot load


def write_mask(path: Path, low: int = 0, high: int = 255) -> Path:
    """A grey picture: `high` in `BOX`, `low` elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH), low, dtype=np.uint8)
    pixels[Y : Y + H, X : X + W] = high
    Image.fromarray(pixels).save(path)
    return path


def write_text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def write_voc(
    root: Path, annotations: Mapping[str, Sequence[tuple[str, int, tuple[float, ...]]]], split: str = "train"
) -> Path:
    """A VOC2007 tree; `annotations`: id -> (class, difficult, 1-based inclusive box) of each object."""
    folder = root / "VOCdevkit" / "VOC2007"
    write_text(folder / f"ImageSets/Main/{split}.txt", "\n".join(annotations) + "\n")
    write_text(folder / f"ImageSets/Main/dog_{split}.txt", "".join(f"{name} -1\n" for name in annotations))
    for name, objects in annotations.items():
        write_picture(folder / "JPEGImages" / f"{name}.jpg")
        text = "".join(OBJECT.format(name=k, difficult=difficult, box=box) for k, difficult, box in objects)
        write_text(folder / "Annotations" / f"{name}.xml", f"<annotation>{text}</annotation>")
    return folder


def make_voc(root: Path) -> None:
    for split, ids in (("train", "123"), ("val", "456"), ("test", "789")):
        write_voc(root, {name: [("dog", 0, (X + 1, Y + 1, X + W, Y + H))] for name in ids}, split)


def write_waterbirds(root: Path, name: str = "waterbird_1.0_forest2water2") -> Path:
    """Two training images and one for validation and test each; only the first has a segmentation."""
    folder = root / name
    rows = ["img_id,img_filename,y,split,place,place_filename", "7,a/x.jpg,1,0,0,p", "9,a/z.jpg,0,0,1,p"]
    write_text(folder / "metadata.csv", "\n".join([*rows, "11,a/v.jpg,0,1,0,p", "12,a/t.jpg,1,2,1,p"]) + "\n")
    for picture in "xzvt":
        write_picture(folder / "a" / f"{picture}.jpg")
    boxes = "7 1.0 2.0 3.0 4.0\n9 0.0 0.0 5.0 5.0\n11 0.0 0.0 5.0 5.0\n12 0.0 0.0 5.0 5.0\n"
    write_text(root / "CUB_200_2011" / "bounding_boxes.txt", boxes)
    write_mask(root / "CUB_200_2011" / "segmentations" / "a" / "x.png")
    return folder


def write_instances(path: Path, categories: Mapping[int, str], images: Path, count: int, **extra: Any) -> None:
    """A COCO JSON of `count` images `images`/<path's stem>_<i>.jpg, each with one annotation; polygons and codes in turn."""
    from pycocotools import mask as codes

    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[Y : Y + H, X : X + W] = 1
    code = codes.encode(mask)
    rle = {"size": code["size"], "counts": code["counts"].decode()}
    polygon = [[X, Y, X + W, Y, X + W, Y + H, X, Y + H]]
    content: dict[str, Any] = {
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
        "images": [], "annotations": [],
    }  # fmt: skip
    keys = sorted(categories)
    for i in range(count):
        name = f"{path.stem}_{i:02d}.jpg"
        write_picture(images / name, seed=i)
        content["images"].append({"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH})
        content["annotations"].append(
            {"id": 100 + i, "image_id": i, "category_id": keys[i % len(keys)], "bbox": [X, Y, W, H], "iscrowd": 0,
             "segmentation": polygon if i % 2 == 0 else rle} | extra
        )  # fmt: skip
    write_text(path, json.dumps(content))


def make_coco(root: Path) -> None:
    for part, count in (("train2017", 20), ("val2017", 8)):
        write_instances(
            root / f"annotations/instances_{part}.json", {1: "person", 90: "toothbrush"}, root / part, count
        )


def write_cub(root: Path, images: str) -> Path:
    """CUB's text files and segmentations for `TRAIN` + `TEST` images of each species, without the images themselves."""
    cub = root / "CUB_200_2011"
    names = [f"{name}/Bird_{i:04d}.jpg" for name in SPECIES for i in range(TRAIN + TEST)]
    numbered = list(enumerate(names, start=1))
    write_text(cub / "images.txt", "".join(f"{i} {name}\n" for i, name in numbered))
    write_text(cub / "classes.txt", "".join(f"{i} {name}\n" for i, name in enumerate(SPECIES, start=1)))
    labels = [f"{i} {SPECIES.index(name.split('/')[0]) + 1}\n" for i, name in numbered]
    write_text(cub / "image_class_labels.txt", "".join(labels))
    training = [f"{i} {int((i - 1) % (TRAIN + TEST) < TRAIN)}\n" for i, _ in numbered]
    write_text(cub / "train_test_split.txt", "".join(training))
    write_text(cub / "bounding_boxes.txt", "".join(f"{i} {X}.0 {Y}.0 {W}.0 {H}.0\n" for i, _ in numbered))
    for name in names:
        write_mask((root / images / name).with_suffix(".png"), low=127, high=128)
    return cub


def make_cub(root: Path) -> None:
    write_cub(root, "CUB_200_2011/segmentations")
    for name, i in product(SPECIES, range(TRAIN + TEST)):
        write_picture(root / "CUB_200_2011" / "images" / name / f"Bird_{i:04d}.jpg", seed=i)


def make_traveling_birds(root: Path) -> None:
    write_cub(root, "segmentations")
    for name, i in product(SPECIES, range(TRAIN + TEST)):
        folders = ["train"] if i < TRAIN else ["test", "test_black"]
        for folder in folders:
            write_picture(root / "CUB_fixed" / folder / name / f"Bird_{i:04d}.jpg", seed=i)


def make_folders(root: Path, classes: Sequence[str], counts: Mapping[str, int], suffix: str = ".jpg") -> None:
    for (part, count), name in product(counts.items(), classes):
        for i in range(count):
            write_picture(root / part / name / f"{name}_{part}_{i}{suffix}", seed=i)


def make_imagenet(root: Path, classes: Sequence[str], train: int) -> None:
    make_folders(root, classes, {"train": train, "val": 2}, ".JPEG")
    text = "<annotation>{}</annotation>"
    for name in classes[:2]:
        box = text.format(OBJECT.format(name=name, difficult=0, box=BOX))
        write_text(root / "bboxes" / "train" / name / f"{name}_train_0.xml", box)
        write_text(root / "bboxes" / "val" / f"{name}_val_0.xml", box)


def make_imagenet100(root: Path) -> None:
    make_imagenet(root, list(WOOF)[:3], train=10)  # of which the list names two
    write_text(root / "imagenet100.txt", "# two\nn02087394 Rhodesian ridgeback\n\nn02086240\n")


def make_imagewoof(root: Path) -> None:
    make_imagenet(root, list(WOOF), train=5)


def make_hard_imagenet(root: Path) -> None:
    make_imagenet(root, list(HARD), train=5)
    for (part, count), name in product((("train", 5), ("val", 2)), list(HARD)[:3]):
        for i in range(count):
            write_mask(root / "masks" / part / name / f"{name}_{part}_{i}.png", high=1)


def make_custom_coco(root: Path) -> None:
    for part, count in (("train", 20), ("test", 8)):
        write_instances(root / f"{part}.json", {7: "cat", 3: "dog"}, root / "images", count)


def make_custom_folders(root: Path) -> None:
    make_folders(root, ("cat", "dog"), {"train": 10, "test": 4})
    rows = [f"{part}/{k}/{k}_{part}_0.jpg,{k},2,3,12,11" for part in ("train", "test") for k in ("cat", "dog")]
    write_text(root / "boxes.csv", "\n".join(["image,class,x0,y0,x1,y1", *rows]) + "\n")


def make_custom_masks(root: Path) -> None:
    make_folders(root, ("cat", "dog"), {"train": 10, "test": 4})
    for part, name in product(("train", "test"), ("cat", "dog")):
        write_mask(root / "masks" / part / name / f"{name}_{part}_0.png", high=1)


HALF = {"train": 16, "val": 4, "test": 8}  # two classes
LAYOUTS = {
    "voc": Layout("voc", make_voc, {"train": 3, "val": 3, "test": 3}, required=("VOCdevkit/VOC2007/ImageSets/Main/test.txt",)),
    "waterbirds": Layout(
        "waterbirds", lambda root: (write_waterbirds(root), None)[1], {"train": 2, "val": 1, "test": 1},
        required=("waterbird_1.0_forest2water2/metadata.csv", "CUB_200_2011/bounding_boxes.txt"),
    ),
    "coco": Layout(
        "coco", make_coco, {"train": 18, "val": 2, "test": 8, "train2017": 20, "val2017": 8}, {"year": "2017"},
        ("annotations/instances_val2017.json", "val2017"),
    ),
    "cub": Layout(
        "cub", make_cub, HALF,
        required=[f"CUB_200_2011/{name}.txt" for name in
                  ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")],
    ),
    "traveling_birds": Layout(
        "traveling_birds", make_traveling_birds, HALF | {"test_black": 8},
        required=("CUB_fixed/train", "CUB_200_2011/images.txt", "CUB_200_2011/bounding_boxes.txt"),
    ),
    "imagenet100": Layout(
        "imagenet100", make_imagenet100, {"train": 16, "val": 4, "test": 4},
        required=("imagenet100.txt", "train", "val/n02086240"),
    ),
    "imagewoof": Layout("imagewoof", make_imagewoof, {"train": 40, "val": 10, "test": 20}, required=("val/n02086240",)),
    "hard_imagenet": Layout(
        "hard_imagenet", make_hard_imagenet, {"train": 60, "val": 15, "test": 30}, required=("masks", "val/n02492660")
    ),
    "custom_coco": Layout("custom", make_custom_coco, HALF, required=("train.json", "images")),
    "custom_folders": Layout("custom", make_custom_folders, HALF, required=("train",)),
    "custom_masks": Layout("custom", make_custom_masks, HALF, {"layout": "masks"}, ("train", "masks")),
}  # fmt: skip
