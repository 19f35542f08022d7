"""One data set per file. `DATASETS` maps a name to `load(root, split, *, ...) -> Source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guidance.data.sets.coco import load_coco
from guidance.data.sets.cub import load_cub
from guidance.data.sets.custom import load_custom
from guidance.data.sets.demo import load_demo
from guidance.data.sets.imagenet import load_hard_imagenet, load_imagenet100, load_imagewoof
from guidance.data.sets.traveling_birds import load_traveling_birds
from guidance.data.sets.voc import load_voc
from guidance.data.sets.waterbirds import load_waterbirds
from guidance.data.source import Source

# The keyword-only arguments of each are settings of its section in a config, under the same names.
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
