"""A small generated set with a spurious background: signs, before textures that give them away in training."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guidance.data.decode import read_class_map_segments
from guidance.data.demo_drawing import SYMBOLS, TEXTURES, draw
from guidance.data.source import Record, Source, check_on_error, lookup_split

CLASSES, BACKGROUNDS = tuple(SYMBOLS), tuple(TEXTURES)
GROUPS = tuple(f"{symbol}/{texture}" for symbol in CLASSES for texture in BACKGROUNDS)
SPLITS = {"train": 0, "val": 1, "test": 2}
ANNOTATIONS = "annotations.json"


def load_demo(
    root: str | Path,
    split: str,
    *,
    num_train: int = 960,
    num_val: int = 240,
    num_test: int = 480,
    image_size: int = 64,
    correlation: float = 0.95,
    seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """Split "train", "val" or "test" of the demo set at `root`, which is generated first where it does not exist.

    Three classes (`CLASSES`), single-label; group = 3 * class + texture; boxes and segmentations. See `generate_demo`
    for the other options. A `root` that holds something else, or a set with other options, is a ValueError.
    """
    check_on_error(on_error)
    lookup_split(SPLITS, split, "demo")
    root = Path(root)
    settings = _settings(num_train, num_val, num_test, image_size, correlation, seed)
    if not (root / ANNOTATIONS).is_file():
        _generate(root, settings)
    content = _read_annotations(root / ANNOTATIONS)
    if content["settings"] != settings:
        raise ValueError(
            f"demo: {root} was generated with {content['settings']}, but the options now are {settings}; choose "
            "another data.root, or delete that folder"
        )
    return Source(
        name="demo",
        split=split,
        classes=CLASSES,
        records=tuple(_record(root, entry) for entry in content["splits"][split]),
        single_label=True,
        groups=GROUPS,
        read_segments=read_class_map_segments,
    )


def generate_demo(
    root: str | Path,
    *,
    num_train: int = 960,
    num_val: int = 240,
    num_test: int = 480,
    image_size: int = 64,
    correlation: float = 0.95,
    seed: int = 0,
) -> None:
    """Write the demo set to `root`, which must not exist or be empty.

    Each class has a texture of its own. In training and validation the share `correlation` of a class's images shows it,
    and the rest is spread evenly over the other textures; validation holds at least one image of every group, whatever
    the correlation, so that group metrics are defined. At test all groups are equally large. The pictures depend on the
    options alone. They are written beside `root` and renamed, so a killed run leaves no half set, and of several
    processes that generate at once one wins.
    """
    _generate(Path(root), _settings(num_train, num_val, num_test, image_size, correlation, seed))


def _read_annotations(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content.keys() >= {"settings", "splits"}:
            return content
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"demo: {path} is not what generate_demo wrote; delete the folder, and it will be generated anew")


def _settings(num_train: int, num_val: int, num_test: int, size: int, correlation: float, seed: int) -> dict[str, Any]:
    if min(num_train, num_val, num_test) < len(GROUPS):
        raise ValueError(f"demo: each split needs at least {len(GROUPS)} images, one per group")
    if size < 16:
        raise ValueError(f"demo: image_size must be at least 16 pixels; got {size}")
    if not 0 <= correlation <= 1:
        raise ValueError(f"demo: correlation must lie between 0 and 1; got {correlation}")
    counts = {"train": num_train, "val": num_val, "test": num_test}
    return {"counts": counts, "image_size": size, "correlation": correlation, "seed": seed}


def _generate(root: Path, settings: dict[str, Any]) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(
            f"demo: {root} exists but is no generated set (it has no {ANNOTATIONS}); choose a data.root that does not "
            "exist, and the set will be generated there"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        splits = {split: _write_split(temporary, split, settings) for split in SPLITS}
        (temporary / ANNOTATIONS).write_text(json.dumps({"settings": settings, "splits": splits}))
        temporary.chmod(0o755)
        try:
            temporary.rename(root)
        except OSError:
            if not (root / ANNOTATIONS).is_file():
                raise
            # Another process has generated the set in the meantime; the two are equal.
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(folder: Path, split: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    number, count, seed = SPLITS[split], settings["counts"][split], settings["seed"]
    correlation = 1 / len(BACKGROUNDS) if split == "test" else settings["correlation"]
    groups = _groups(count, correlation, at_least=1 if split == "val" else 0)
    np.random.default_rng((seed, number)).shuffle(groups)
    (folder / "images" / split).mkdir(parents=True)
    (folder / "masks" / split).mkdir(parents=True)
    entries = []
    for index, (label, texture) in enumerate(groups):
        rng = np.random.default_rng((seed, number, index))
        picture, mask = draw(CLASSES[label], BACKGROUNDS[texture], settings["image_size"], rng)
        name = f"{split}/{index:05d}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        Image.fromarray(mask.astype(np.uint8) * (label + 1)).save(folder / "masks" / name)
        entries.append({"name": name, "class": label, "texture": texture, "box": _box(mask)})
    return entries


def _groups(count: int, correlation: float, at_least: int) -> list[tuple[int, int]]:
    """(class, texture) of `count` images: classes equally often, textures as `generate_demo` says."""
    groups = []
    for label in range(len(CLASSES)):
        images = len(range(label, count, len(CLASSES)))
        others = [texture for texture in range(len(BACKGROUNDS)) if texture != label]
        rest = max(images - round(correlation * images), at_least * len(others))
        groups += [(label, label)] * (images - rest) + [(label, others[i % len(others)]) for i in range(rest)]
    return groups


def _box(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _record(root: Path, entry: dict[str, Any]) -> Record:
    x0, y0, x1, y1 = entry["box"]
    return Record(
        path=root / "images" / entry["name"],
        classes=(entry["class"],),
        boxes=((x0, y0, x1, y1),),
        box_classes=(entry["class"],),
        segmentation=root / "masks" / entry["name"],
        group=entry["class"] * len(BACKGROUNDS) + entry["texture"],
    )
