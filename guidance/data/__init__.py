"""Data sets, transforms and loaders: what most users of the package need of them."""

from guidance.data.annotation import RegionOptions
from guidance.data.dataset import GuidanceDataset, Sample
from guidance.data.loader import EvaluationBatches, Loader, TrainBatches, collate
from guidance.data.reading.decode import UnreadableError
from guidance.data.sets import DATASETS
from guidance.data.sets.demo import generate_demo, load_demo
from guidance.data.source import Record, Source
from guidance.data.transforms.encodings import to_display
from guidance.data.transforms.evaluation import eval_transform
from guidance.data.transforms.training import train_transform
from guidance.data.transforms.views import Transform

__all__ = [
    "DATASETS",
    "EvaluationBatches",
    "GuidanceDataset",
    "Loader",
    "Record",
    "RegionOptions",
    "Sample",
    "Source",
    "TrainBatches",
    "Transform",
    "UnreadableError",
    "collate",
    "eval_transform",
    "generate_demo",
    "load_demo",
    "to_display",
    "train_transform",
]
