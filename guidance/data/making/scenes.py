"""Birds of CUB-200-2011, cut out and put before pictures of places, as a folder of JPEGs with a metadata.csv."""

from __future__ import annotations

import csv
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from guidance.data.reading.decode import UnreadableError, read_image
from guidance.data.sets.cub_files import Segmentations, find_cub, read_table

LOG = logging.getLogger(__name__)
TRAIN, VAL, TEST = 0, 1, 2
COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename")
SUFFIXES = (".jpg", ".jpeg", ".png")
CUB_FILES = (
    "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt",
)  # fmt: skip

CUB_TREE = """
CUB/CUB_200_2011/                    (CUB may also be CUB_200_2011 itself)
  images.txt, train_test_split.txt, bounding_boxes.txt
  images/<class folder>/<image>.jpg
  segmentations/<class folder>/<image>.png     may also lie beside CUB_200_2011
from https://www.vision.caltech.edu/datasets/cub_200_2011/ (images and segmentations are two downloads)
"""


class Bird(NamedTuple):
    """An image of CUB."""

    image: int  # id
    name: str  # <class folder>/<image>.jpg
    training: bool
    picture: Path
    segmentation: Path


class Scene(NamedTuple):
    """A bird and what it is put before."""

    bird: Bird
    split: int
    label: int
    place: int
    background: Path


def read_birds(cub: Path) -> list[Bird]:
    """The images of CUB, in the order of images.txt, each with its segmentation."""
    cub = _cub_folder(cub)
    names = read_table(cub / "images.txt", ("img_id", "image"), "cub", CUB_TREE)
    training = read_table(cub / "train_test_split.txt", ("img_id", "is_training_image"), "cub", CUB_TREE)
    segmentations = Segmentations(cub)
    birds = []
    for image in names.lines:
        (name,) = names.row(image)
        segmentation = segmentations.find(name)
        if segmentation is None:
            raise ValueError(f"{name} has no segmentation, but it takes one to cut the bird out. Expected:{CUB_TREE}")
        in_training = training.integer(image, (0, 1)) == 1
        birds.append(Bird(image, name, in_training, cub / "images" / name, segmentation))
    return birds


def _cub_folder(cub: Path) -> Path:
    return find_cub((cub.parent, cub) if cub.name == "CUB_200_2011" else (cub,), "cub", CUB_TREE)


def read_backgrounds(folder: Path, places: Sequence[str]) -> dict[str, list[Path]]:
    """The pictures of each place, sorted: all below folder/<place>."""
    found = {}
    for place in places:
        pictures = sorted(path for path in (folder / place).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not pictures:
            raise ValueError(
                f"{folder / place} holds no picture; expected {folder}/<place>/*.jpg for the places {', '.join(places)}"
            )
        found[place] = pictures
    return found


def draw_backgrounds(
    birds: Sequence[Bird],
    splits: Sequence[int],
    labels: Sequence[int],
    places: Sequence[int],
    pools: Sequence[Sequence[Path]],
    rng: np.random.Generator,
) -> list[Scene]:
    """A picture of its place for each bird: none serves twice before all of the place have served."""
    orders = [rng.permutation(len(pool)).tolist() for pool in pools]
    used = [0] * len(pools)
    scenes = []
    for bird, split, label, place in zip(birds, splits, labels, places, strict=True):
        order = orders[place]
        background = pools[place][order[used[place] % len(order)]]
        used[place] += 1
        scenes.append(Scene(bird, split, label, place, background))
    if any(count > len(pool) for count, pool in zip(used, pools, strict=True)):
        LOG.warning("there are fewer backgrounds than birds, so several birds (also of two splits) share one")
    return scenes


def compose(bird: Path, segmentation: Path, background: Path) -> Image.Image:
    """The bird, cut out by its segmentation (grey levels blend), before the centre of the background, in the bird's size."""
    front = _read_picture(bird)
    try:
        with Image.open(segmentation) as image:
            mask = np.asarray(image.convert("L"), dtype=np.float32)[:, :, None] / 255
    except OSError as error:
        raise UnreadableError(f"segmentation {segmentation} cannot be read ({error})") from error
    if mask.shape[:2] != (front.height, front.width):
        raise ValueError(f"segmentation {segmentation} has another size than its image {bird}")
    back = ImageOps.fit(_read_picture(background), front.size, Image.Resampling.LANCZOS)
    mixed = np.asarray(front, dtype=np.float32) * mask + np.asarray(back, dtype=np.float32) * (1 - mask)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _read_picture(path: Path) -> Image.Image:
    return Image.fromarray(read_image(path).permute(1, 2, 0).contiguous().numpy())


def _write_scene(scene: Scene, *, folder: Path, name: Callable[[Scene], str]) -> None:
    path = folder / name(scene)
    path.parent.mkdir(parents=True, exist_ok=True)
    compose(scene.bird.picture, scene.bird.segmentation, scene.background).save(path, quality=95)


def write_set(
    target: Path,
    cub: Path,
    backgrounds: Path,
    scenes: Sequence[Scene],
    name: Callable[[Scene], str],
    *,
    threads: int = 1,
) -> Path:
    """Write the scenes, each to target/name(scene), with metadata.csv; CUB's annotation beside `target`. Returns `target`.

    A folder of the name of `target` is always complete. Raises ValueError where there is one already.
    """
    if target.exists():
        raise ValueError(f"{target} exists; delete it, or choose another --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    _copy_annotation(_cub_folder(cub), target.parent)

    def write(temporary: Path) -> None:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            list(pool.map(partial(_write_scene, folder=temporary, name=name), scenes))
        with open(temporary / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for scene in scenes:
                place = f"/{scene.background.relative_to(backgrounds).as_posix()}"
                writer.writerow((scene.bird.image, name(scene), scene.label, scene.split, scene.place, place))

    _write_folder(target, write)
    return target


def _copy_annotation(cub: Path, output: Path) -> None:
    """Boxes, lists and segmentations to output/CUB_200_2011, where the loaders look for them."""
    target = output / "CUB_200_2011"
    if target.exists():
        return
    segmentations = next(p for p in (cub / "segmentations", cub.parent / "segmentations") if p.is_dir())

    def write(temporary: Path) -> None:
        for name in CUB_FILES:
            if (cub / name).is_file():
                shutil.copy2(cub / name, temporary)
        shutil.copytree(segmentations, temporary / "segmentations")

    _write_folder(target, write)


def _write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a hidden folder and rename it to `target`, so that a folder of that name is always complete."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        write(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
