"""Data sets, transforms and loaders. `DATASETS` maps a name to `load(root, split, *, ...) -> Source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guidance.data.cache.images import ImageCache, build_cache, cache_path, open_cache, shared_cache
from guidance.data.dataset import GuidanceDataset, Sample
from guidance.data.loading import (
    EvaluationBatches,
    TrainBatches,
    abandon_workers,
    annotated_subset,
    build_loader,
    collate,
    naming_killed_workers,
    read,
)
from guidance.data.reading.decode import UnreadableError
from guidance.data.sets.coco import load_coco
from guidance.data.sets.cub import load_cub
from guidance.data.sets.custom import load_custom
from guidance.data.sets.demo import generate_demo, load_demo
from guidance.data.sets.imagenet import load_hard_imagenet, load_imagenet100, load_imagewoof
from guidance.data.sets.traveling_birds import load_traveling_birds
from guidance.data.sets.voc import load_voc
from guidance.data.sets.waterbirds import load_waterbirds
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

DATASETS: Mapping[str, Callable[..., Source]] = {
    "coco": load_coco,
    "cub": load_cub,
    "custom": load_custom,
    "demo": load_demo,
    "hard_imagenet": load_hard_imagenet,
    "imagenet100": load_imagenet100,
    "imagewoof": load_imagewoof,
    "traveling_birds": load_traveling_birds,
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
    "ImageCache",
    "Record",
    "Sample",
    "Source",
    "TrainBatches",
    "Transform",
    "UnreadableError",
    "abandon_workers",
    "annotated_subset",
    "build_cache",
    "build_loader",
    "cache_path",
    "collate",
    "eval_transform",
    "generate_demo",
    "load_coco",
    "load_cub",
    "load_custom",
    "load_demo",
    "load_hard_imagenet",
    "load_imagenet100",
    "load_imagewoof",
    "load_traveling_birds",
    "load_voc",
    "load_waterbirds",
    "naming_killed_workers",
    "open_cache",
    "read",
    "shared_cache",
    "to_display",
    "train_transform",
]
