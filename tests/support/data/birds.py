"""A small CUB, and places to put its birds before."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SPECIES = ("001.Sooty_Albatross", "021.Eastern_Towhee", "059.Western_Gull", "130.Tree_Sparrow")
RED, HEIGHT, WIDTH = (200, 10, 10), 24, 32
BOX = (8, 6, 20, 18)  # where the bird is


def write_cub(folder: Path, images: int = 10) -> Path:
    """A CUB of `images` red squares for each of `SPECIES`, every other one a training image."""
    cub = folder / "CUB_200_2011"
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0, x1, y1 = BOX
    mask[y0:y1, x0:x1] = 255
    rows = [(label, f"{species}/{i}.jpg") for label, species in enumerate(SPECIES) for i in range(images)]
    for _, name in rows:
        for path in (cub / "images" / name, (cub / "segmentations" / name).with_suffix(".png")):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), RED).save(cub / "images" / name)
        Image.fromarray(mask).save((cub / "segmentations" / name).with_suffix(".png"))
    texts = {
        "images.txt": [f"{i} {name}" for i, (_, name) in enumerate(rows, start=1)],
        "image_class_labels.txt": [f"{i} {label + 1}" for i, (label, _) in enumerate(rows, start=1)],
        "train_test_split.txt": [f"{i} {i % 2}" for i in range(1, len(rows) + 1)],
        "bounding_boxes.txt": [f"{i} {x0}.0 {y0}.0 {x1 - x0}.0 {y1 - y0}.0" for i in range(1, len(rows) + 1)],
        "classes.txt": [f"{i} {name}" for i, name in enumerate(SPECIES, start=1)],
    }
    for name, lines in texts.items():
        (cub / name).write_text("\n".join(lines) + "\n")
    return cub


def write_places(folder: Path, places: dict[str, tuple[int, int, int]], pictures: int = 40) -> Path:
    """Plain pictures of a colour for each place; the last channel counts them."""
    for place, (red, green, _) in places.items():
        (folder / place / "sub").mkdir(parents=True)
        for i in range(pictures):
            Image.new("RGB", (50, 20), (red, green, i)).save(folder / place / "sub" / f"{i:02d}.png")
    return folder


LAND_AND_WATER = {"land": (0, 255, 0), "water": (0, 0, 255)}


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="") as file:
        return list(csv.DictReader(file))


def few_birds(sample: Path, folder: Path, images: int) -> Path:
    """`images` of each split of a Waterbirds set, of every group in turn; its files are linked."""
    (source,) = sample.glob("waterbird_*")
    target = folder / source.name
    target.mkdir(parents=True)
    chosen: list[dict[str, str]] = []
    for split in "012":
        of_split = [row for row in rows(source) if row["split"] == split]
        groups = {(row["y"], row["place"]) for row in of_split}
        each = [[row for row in of_split if (row["y"], row["place"]) == group] for group in sorted(groups)]
        chosen += [row for turn in zip(*each, strict=False) for row in turn][:images]
    with open(target / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)
    for row in chosen:
        path = target / row["img_filename"]
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(source / row["img_filename"])
    (folder / "CUB_200_2011").symlink_to(sample / "CUB_200_2011")
    return folder
