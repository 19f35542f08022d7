"""Data sets, transforms and loaders. `DATASETS` maps a name to `load(root, split, *, ...) -> Source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guidance.data.dataset import GuidanceDataset, Sample
from guidance.data.decode import UnreadableError
from guidance.data.demo import generate_demo, load_demo
from guidance.data.loading import EvaluationBatches, TrainBatches, annotated_subset, build_loader, collate, read
from guidance.data.source import Record, Source
from guidance.data.transforms import (
    AUGMENTATIONS,
    CROPS,
    ENCODINGS,
    Transform,
    eval_transform,
    to_display,
    train_transform,
)
from guidance.data.voc import load_voc
from guidance.data.waterbirds import load_waterbirds

DATASETS: Mapping[str, Callable[..., Source]] = {
    "demo": load_demo,
    "voc": load_voc,
    "waterbirds": load_waterbirds,
}

__all__ = [
    "AUGMENTATIONS",
    "CROPS",
    "DATASETS",
    "ENCODINGS",
    "EvaluationBatches",
    "GuidanceDataset",
    "Record",
    "Sample",
    "Source",
    "TrainBatches",
    "Transform",
    "UnreadableError",
    "annotated_subset",
    "build_loader",
    "collate",
    "eval_transform",
    "generate_demo",
    "load_demo",
    "load_voc",
    "load_waterbirds",
    "read",
    "to_display",
    "train_transform",
]
