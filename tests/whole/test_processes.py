"""The number of processes changes nothing: losses, weights, metrics. Each world size is started once for all scenarios."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidance import distributed, inference
from guidance.assembly import build_evaluation_dataset, build_evaluator, build_source, build_trainer
from guidance.config import parse_config
from guidance.data import (
    GuidanceDataset,
    Loader,
    RegionOptions,
    TrainBatches,
    generate_demo,
    load_demo,
    train_transform,
)
from guidance.inference import evaluate_checkpoint
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import build_model
from guidance.models.aim import AIMForm, build_aim
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import SyncBatchNorm2d, convert_batchnorm
from guidance.objectives import Objective
from guidance.types import Batch
from tests.support import objectives as make
from tests.support.processes import run_processes

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
# name -> settings of Objective (guided by the Energy loss where they say so), which samples are annotated, chunks
AIM_SCENARIOS: dict[str, tuple[dict[str, Any], str, int]] = {
    "aim": ({}, "none", 1),
    "aim, area of the batch": ({"area_ratio": "batch"}, "none", 1),
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
        aim = make.masking(
            masked, threshold=0.3, anneal_epochs=4, localization=LOCALIZATION_LOSSES["energy"].function, **settings
        )
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
    for batch in Loader(dataset, batches):
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
        "model": {"name": "resnet18"}, "objective": {"attribution": {"depth": "mid1"}},
        "evaluation": {"batch_size": 2, "iou_threshold": "fit"},
    })  # fmt: skip
    torch.manual_seed(0)
    source = build_source(config, "test")
    model = build_model("resnet18", num_classes=len(source.classes))
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
        "model": {"name": "resnet18", "batchnorm": batchnorm}, "optimizer": {"name": "sgd", "lr": 1e-3},
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
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [*lines, again]


def everything(root: Path) -> dict[str, Any]:
    runs = {f"run {b}": whole_run(root, root.parent / "runs", b) for b in ("frozen", "sync", "local")}
    epochs = {name: train_epoch(root, name) for name in (*SCENARIOS, *AIM_SCENARIOS)}
    return epochs | {"evaluation": evaluate_split(root)} | runs


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """World size -> what each of its processes found."""
    folder = tmp_path_factory.mktemp("processes")
    generate_demo(folder / "demo", num_train=40, num_val=9, num_test=10, image_size=32)
    return {n: run_processes(n, folder / str(n), everything, folder / "demo") for n in (1, 2, 3)}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("scenario", [*SCENARIOS, *AIM_SCENARIOS])
def test_losses_and_weights_do_not_depend_on_processes(
    results: Mapping[int, list[dict[str, Any]]], scenario: str, world_size: int
) -> None:
    alone = results[1][0][scenario]
    assert len(alone["losses"]) == 3
    if scenario in AIM_SCENARIOS:
        settings = AIM_SCENARIOS[scenario][0]
        assert any("localization" in step for step in alone["losses"]) == ("weight" in settings)
        assert any("mask_localization" in step for step in alone["losses"]) == ("mask_weight" in settings)
        assert all(step["threshold"] == pytest.approx(0.65) for step in alone["losses"])
        assert 0 < alone["losses"][0]["active/stage1"] < 1
    else:
        annotated = "none annotated" not in scenario
        assert any("localization" in step for step in alone["losses"]) == annotated
    for process in results[world_size]:
        for expected, found in zip(alone["losses"], process[scenario]["losses"], strict=True):
            assert found.keys() == expected.keys()
            for term in expected:
                assert found[term] == pytest.approx(expected[term], rel=1e-9, abs=1e-12), term
        for name, expected in alone["weights"].items():
            torch.testing.assert_close(process[scenario]["weights"][name], expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batchnorm", ["frozen", "sync"])
def test_whole_runs_do_not_depend_on_processes(
    results: Mapping[int, list[dict[str, Any]]], batchnorm: str, world_size: int
) -> None:
    """The losses of every step, through the entry point."""
    alone, many = (results[n][0][f"run {batchnorm}"] for n in (1, world_size))
    steps = [line for line in alone if "step/lr" in line]
    assert len(steps) == 3
    for line, other in zip(steps, many, strict=False):
        for name in ("step/classification", "step/localization"):
            assert other.get(name) == pytest.approx(line.get(name), rel=1e-9)


@pytest.mark.parametrize("batchnorm", ["frozen", "sync", "local"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_stored_metrics_are_those_of_the_stored_weights(
    results: Mapping[int, list[dict[str, Any]]], batchnorm: str, world_size: int
) -> None:
    """Also with local statistics, which differ between the processes until the main process's are given to all."""
    for process in results[world_size]:
        *_, epoch, again = process[f"run {batchnorm}"]
        assert epoch["epoch"] == 1
        stored = {name.removeprefix("val/"): value for name, value in epoch.items() if name.startswith("val/")}
        assert stored == {name: None if value != value else value for name, value in again.items()}


def test_local_statistics_are_the_exception(results: Mapping[int, list[dict[str, Any]]]) -> None:
    """The comparison above can fail: guidance changes the losses, and reductions differ."""
    first = results[1][0]
    assert first["sync sum"]["losses"] != first["frozen sum"]["losses"]
    assert first["frozen sum"]["losses"] != first["frozen mean"]["losses"]


def test_evaluation_is_identical_for_any_number_of_processes(results: Mapping[int, list[dict[str, Any]]]) -> None:
    """10 images in batches of 2: neither 2 nor 3 processes divide the 5 batches."""
    alone = results[1][0]["evaluation"]
    assert alone["epg"] > 0
    for world_size in (2, 3):
        for process in results[world_size]:
            assert {k: repr(v) for k, v in process["evaluation"].items()} == {k: repr(v) for k, v in alone.items()}


def test_sync_batchnorm_equals_torch_on_one_process() -> None:
    reference, ours = nn.BatchNorm2d(5).double(), SyncBatchNorm2d(5).double()
    with torch.no_grad():
        reference.weight.normal_()
        ours.load_state_dict(reference.state_dict())
    x = (torch.randn(4, 5, 3, 2).double() * 3 + 7).requires_grad_()
    for _ in range(2):
        torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(ours.state_dict(), reference.state_dict())
    functions = [partial(torch.autograd.functional.vhp, lambda x, f=f: (f(x) ** 3).sum()) for f in (ours, reference)]
    direction = torch.randn_like(x)
    torch.testing.assert_close(functions[0](x, direction)[1], functions[1](x, direction)[1])
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))
