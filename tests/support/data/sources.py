"""Splits of the stand-ins of `LAYOUTS`, and faults to put into them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guidance.data import DATASETS, Source, eval_transform
from tests.support.data.datasets import make_dataset
from tests.support.data.layouts import LAYOUTS, WIDTH, edit

Fault = Callable[[Path], object]


def load(root: Path, name: str, split: str, **options: Any) -> Source:
    return DATASETS[LAYOUTS[name].name](root, split, **LAYOUTS[name].options, **options)


def made(root: Path, name: str) -> Path:
    LAYOUTS[name].make(root)
    return root


def sample_of(source: Source, index: int = 0, **options: Any) -> Any:
    return make_dataset(source, eval_transform(WIDTH), **options)[0, index]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


CUB = "CUB_200_2011/"
VOC = "VOCdevkit/VOC2007/"
COCO_JSON, CUSTOM_JSON = "annotations/instances_val2017.json", "test.json"
XML = "bboxes/val/n02086240_val_0.xml"
CAT = "test/cat/cat_test_0.jpg,cat,2,3,12,11"


def text(path: str, old: str, new: str) -> Fault:
    return lambda root: edit(root / path, old, new)


def delete(path: str) -> Fault:
    return lambda root: (root / path).unlink()


def annotation(path: str, **change: Any) -> Fault:
    """Change the first annotation of a JSON; None removes a key."""

    def fault(root: Path) -> None:
        content = json.loads((root / path).read_text())
        content["annotations"][0].update(change)
        for key in [key for key, value in change.items() if value is None]:
            del content["annotations"][0][key]
        (root / path).write_text(json.dumps(content))

    return fault
