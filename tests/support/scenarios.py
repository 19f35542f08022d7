"""Small runs of every kind, for any number of processes to be compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guidance import distributed, inference
from guidance.assembly import build_evaluation_dataset, build_evaluator, build_source, build_trainer
from guidance.config import parse_config
from guidance.data import GuidanceDataset, Loader, RegionOptions, TrainBatches, load_demo, train_transform
from guidance.inference import evaluate_checkpoint
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import build_model
from guidance.models.aim import AIMForm, build_aim
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import convert_batchnorm
from guidance.objectives import Objective
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from guidance.types import Batch
from tests.support import objectives as make

BATCH = 12
# name -> batch norm, reduction, depth, attribution, loss, which samples are annotated, chunks
SCENARIOS: dict[str, tuple[str, str, str, str, str, str, int]] = {
    "frozen sum": ("frozen", "sum", "input", "ixg", "energy", "some", 1),
    "frozen mean": ("frozen", "mean", "input", "ixg", "energy", "some", 1),
    "sync sum": ("sync", "sum", "input", "ixg", "energy", "some", 1),
    "sync mean": ("sync", "mean", "mid1", "ixg", "l1", "some", 1),
    "sync mean, one annotated image": ("sync", "mean", "input", "ixg", "energy", "one", 1),
    "frozen sum, one annotated image": ("frozen", "sum", "final", "gradcam", "rrr", "one", 1),
    "sync sum, two chunks": ("sync", "sum", "mid1", "ixg", "ppce", "some", 2),
    "frozen sum, two chunks": ("frozen", "sum", "mid1", "ixg", "energy", "some", 2),
    "sync intgrad": ("sync", "mean", "mid1", "intgrad", "energy", "some", 1),
    "frozen none annotated": ("frozen", "mean", "input", "ixg", "energy", "none", 1),
}
# name -> settings of the objective (guided by the Energy loss where they say so), which samples are annotated, chunks
AIM_SCENARIOS: dict[str, tuple[dict[str, Any], str, int]] = {
    "aim": ({}, "none", 1),
    "aim, area of the batch": ({"area_ratio": "batch"}, "none", 1),
    "aim, thresholds of stages": ({"area_ratio": "batch", "threshold": {"stage1": 0.3, "stage2": 0.5}}, "none", 1),
    "aim, two chunks": ({}, "none", 2),
    "aim, guided masks": ({"mask_weight": 0.5, "reduction": "mean"}, "some", 1),
    "aim, guided attributions": ({"weight": 0.5, "attribution": "ixg", "depth": "final"}, "some", 2),
    "aim, one annotated image": ({"weight": 0.5, "mask_weight": 0.5, "depth": "mid1"}, "one", 1),
}


def small_net(num_classes: int) -> Classifier:
    """Convolutions, batch norms and ReLUs, in float64 so that only mistakes can be seen."""
    torch.manual_seed(0)
    net = nn.ModuleDict({
        "conv1": nn.Conv2d(3, 6, 3, stride=2, padding=1), "bn1": nn.BatchNorm2d(6), "relu": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(6, 8, 3, stride=2, padding=1), "bn2": nn.BatchNorm2d(8),
        "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(8, num_classes),
    })  # fmt: skip
    stages = {"mid1": ("conv1", "bn1", "relu"), "final": ("conv2", "bn2", "relu"), "logits": ("pool", "flat", "fc")}
    return Classifier(net, stages)


def guided(scenario: str, num_classes: int) -> tuple[Objective, str, int]:
    """The objective of a scenario, which samples are annotated, and the number of chunks."""
    model = small_net(num_classes)
    if scenario in AIM_SCENARIOS:
        settings, annotated, chunks = AIM_SCENARIOS[scenario]
        convert_batchnorm(model.net, "frozen")
        masked = build_aim(
            model, (6, 8), first_stage=1, stop_stage=1, num_classes=num_classes, form=AIMForm(width=8, mask_width=4)
        )  # fmt: skip
        energy = LOCALIZATION_LOSSES["energy"].function
        aim = make.masking(masked, anneal_epochs=4, localization=energy, **({"threshold": 0.3} | settings))
        aim.begin_epoch(2)
        return aim, annotated, chunks
    batchnorm, reduction, depth, attribution, loss, annotated, chunks = SCENARIOS[scenario]
    convert_batchnorm(model.net, batchnorm)
    objective = make.guided(
        model, classification="cross_entropy", localization=LOCALIZATION_LOSSES[loss].function, weight=0.1,
        reduction=reduction, attribution=attribution, depth=depth,
        class_weights=torch.tensor([1.0, 0.5, 0.25]),
    )  # fmt: skip
    return objective, annotated, chunks


def train_epoch(root: Path, scenario: str) -> dict[str, Any]:
    """The losses of every step of an epoch, and the weights after it."""
    source = load_demo(root, "train", num_train=40, num_val=9, num_test=10, image_size=32)
    objective, annotated, chunks = guided(scenario, len(source.classes))
    objective.double()
    subsets = {"some": range(0, 40, 3), "one": [7], "none": []}
    dataset = GuidanceDataset(source, train_transform(32, "none", "normalized"), training=True,
                              regions=RegionOptions(classes_per_image="one"), annotated=subsets[annotated])  # fmt: skip
    batches = TrainBatches(len(dataset), BATCH, seed=0, rank=distributed.rank(),
                           world_size=distributed.world_size(), chunks=chunks)  # fmt: skip
    ddp = distributed.parallel(objective, torch.device("cpu"))
    optimizer = torch.optim.SGD(objective.parameters(), 0.05)
    losses = []
    for pixels in Loader(dataset, batches):
        batch = pixels.to("cpu")
        batch = batch._replace(images=batch.images.double(), targets=batch.targets.double())
        losses.append(_update(ddp, objective, optimizer, batch, chunks))
    return {"losses": losses, "weights": copy.deepcopy(objective.model.state_dict())}


def _update(ddp: nn.Module, objective: Objective, optimizer: Any, batch: Batch, chunks: int) -> dict[str, float]:
    counts = objective.counts(batch)
    optimizer.zero_grad()
    terms: dict[str, float] = {"total": 0.0}
    parts = batch.chunk(chunks)
    for i, chunk in enumerate(parts):
        with distributed.no_sync(ddp, active=i + 1 < len(parts)):
            step = ddp(chunk, counts)
            step.loss.backward()
        for name, value in {**step.terms, "total": step.loss.detach()}.items():
            terms[name] = terms.get(name, 0.0) + float(distributed.mean(value))
    optimizer.step()
    return terms


def evaluate_split(root: Path) -> dict[str, float]:
    config = parse_config({
        "data": {"name": "demo", "root": str(root), "num_train": 40, "num_val": 9, "num_test": 10,
                 "image_size": 32, "num_workers": 0},
        "model": {"name": "resnet8"}, "objective": {"attribution": {"depth": "mid1"}},
        "evaluation": {"batch_size": 2, "iou_threshold": "fit"},
    })  # fmt: skip
    torch.manual_seed(0)
    source = build_source(config, "test")
    model = build_model("resnet8", num_classes=len(source.classes))
    evaluator = build_evaluator(config, build_evaluation_dataset(config, source), source, torch.device("cpu"))
    return evaluator(model)


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, batches and the nets of loaded runs are float64: in float32, rounding grows until it looks like a mistake."""
    to, build = Batch.to, inference.build_classifier

    def double_to(batch: Batch, device: torch.device | str) -> Batch:
        batch = to(batch, device)
        return batch._replace(images=batch.images.double(), targets=batch.targets.double())

    def build_double(*args: Any, **settings: Any) -> Classifier:
        return build(*args, **settings).double()

    Batch.to, inference.build_classifier = double_to, build_double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Batch.to, inference.build_classifier = to, build  # type: ignore[method-assign]


def whole_run(root: Path, folder: Path, batchnorm: str) -> list[dict[str, Any]]:
    """What the entry point does, with a real net in float64: the logged lines."""
    config = parse_config({
        "data": {"name": "demo", "root": str(root), "num_train": 40, "num_val": 9, "num_test": 10, "image_size": 32,
                 "num_workers": 0, "annotated_fraction": 0.3, "augmentation": "crop_flip"},
        "model": {"name": "resnet8", "batchnorm": batchnorm}, "optimizer": {"name": "sgd", "lr": 1e-3},
        "objective": {"localization": {"weight": 0.1}, "attribution": {"depth": "mid1"}},
        "trainer": {"epochs": 1, "batch_size": BATCH, "device": "cpu"}, "log": {"every": 1, "tensorboard": False},
        "evaluation": {"batch_size": 2},
    })  # fmt: skip
    folder = folder / f"{batchnorm}-{distributed.world_size()}"
    with in_double():
        trainer = build_trainer(config, folder, torch.device("cpu"))
        trainer.objective.double()
        trainer.fit()
        again = evaluate_checkpoint(folder / "checkpoints/last.pt", "val")
    lines = read_log(folder / METRICS)
    return [*lines, again]


def everything(root: Path) -> dict[str, Any]:
    """Whole runs on one and on two processes alone, because they take longest."""
    kinds = ("frozen", "sync", "local") if distributed.world_size() < 3 else ()
    runs = {f"run {b}": whole_run(root, root.parent / "runs", b) for b in kinds}
    epochs = {name: train_epoch(root, name) for name in (*SCENARIOS, *AIM_SCENARIOS)}
    return epochs | {"evaluation": evaluate_split(root)} | runs
