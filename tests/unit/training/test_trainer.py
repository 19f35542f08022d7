"""The trainer through `build_trainer` with a tiny net: files, early stop, evaluation, errors that lose nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidance.assembly import build_evaluation_dataset, build_evaluator, build_source, build_trainer
from guidance.config import Config
from guidance.data import generate_demo, load_demo
from guidance.inference import evaluate_checkpoint, load_run
from guidance.pictures.probe import Probe
from guidance.runs import checkpoint
from guidance.training.guard import NonFiniteError
from guidance.training.random_states import get_rng, set_rng
from tests.support.runs import CPU, build_tiny, rows

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_leaves_its_files(settings: Callable[..., Config], tmp_path: Path) -> None:
    config = settings()
    assert build_trainer(config, tmp_path / "run", CPU).fit()
    run = tmp_path / "run"
    names = {p.name for p in run.iterdir()}
    assert names - {".lock"} == {
        "config.yaml",
        "environment.json",
        "annotated.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
    }
    annotated = json.loads((run / "annotated.json").read_text())
    assert len(annotated["indices"]) == 13
    assert json.loads((run / "environment.json").read_text())["processes"] == 1
    epochs = [row for row in rows(run) if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert [row["step"] for row in epochs] == [4, 8, 12]
    assert {"train/classification", "train/localization", "val/epg", "val/worst_group_accuracy"} <= epochs[-1].keys()
    assert [row["step"] for row in rows(run) if "step/lr" in row] == [2, 4, 6, 8, 10, 12]
    files = list((run / "tensorboard").glob("events*"))
    events = [path for path in files if not path.name.endswith(".settings")]
    assert len(events) == len(files) - 1 == 1  # numbers, and the settings beside them
    assert events[0].stat().st_size > 10_000  # with pictures
    members = sorted((run / "checkpoints/pareto").iterdir())
    assert members
    assert not list(run.rglob("*.tmp"))
    loaded = load_run(run)
    assert loaded.classes == ("ring", "cross", "triangle")
    assert 0 <= loaded.metrics["iou_threshold"] < 1
    test = evaluate_checkpoint(members[0], "test")
    assert test["iou_threshold"] == checkpoint.load(members[0])["metrics"]["iou_threshold"]
    assert test == evaluate_checkpoint(members[0], "test")


def test_map_of_one_image(settings: Callable[..., Config], tmp_path: Path, demo_root: Path) -> None:
    build_trainer(settings(trainer={"epochs": 1}), tmp_path / "run", CPU).fit()
    run = load_run(tmp_path / "run")
    image = sorted(demo_root.rglob("*.png"))[0]
    assert run.explain(image, "cross").shape == (32, 32)
    assert set(run.predict(image)) == {"ring", "cross", "triangle"}
    assert not run.model.training
    with pytest.raises(ValueError, match=r"unknown class 'cros'.*Did you mean 'cross'"):
        run.explain(image, "cros")


@pytest.mark.parametrize(("classification", "decision"), [("bce", "threshold"), ("cross_entropy", "argmax")])
def test_an_evaluation_decides_as_the_loss_does(
    settings: Callable[..., Config], classification: str, decision: str
) -> None:
    config = settings(objective={"classification": classification})
    source = build_source(config, "val")
    evaluator = build_evaluator(config, build_evaluation_dataset(config, source), source, CPU, max_batches=1)
    assert evaluator.with_rows(build_tiny(3))[1].settings.decision == decision


def test_without_regions_a_fitted_threshold_is_one_half(settings: Callable[..., Config]) -> None:
    config = settings()
    source = build_source(config, "val")
    records = tuple(r._replace(boxes=(), box_classes=(), segmentation=None) for r in source.records)
    dataset = build_evaluation_dataset(config, replace(source, records=records))
    assert build_evaluator(config, dataset, source, CPU)(build_tiny(3))["iou_threshold"] == 0.5


def test_maps_of_the_probe_are_not_made_without_tensorboard(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "maps", lambda *_, **__: pytest.fail("made maps that nobody sees"))
    build_trainer(settings(log={"tensorboard": False}), tmp_path / "run", CPU, dry_run=True).evaluate(0)


def test_accumulation_without_batch_statistics_changes_nothing(settings: Callable[..., Config], tmp_path: Path) -> None:
    losses = []
    for accumulate in (1, 3):
        config = settings(trainer={"epochs": 1, "accumulate": accumulate}, model={"batchnorm": "frozen"})
        trainer = build_trainer(config, tmp_path / str(accumulate), CPU)
        trainer.objective.model.net.drop.p = 0.0
        trainer.fit()
        losses.append([row["step/localization"] for row in rows(tmp_path / str(accumulate)) if "step/lr" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_early_stop(settings: Callable[..., Config], tmp_path: Path) -> None:
    stop = {"metric": "f1", "minimum": 1.1, "epochs": 2}
    build_trainer(settings(trainer={"early_stop": stop}), tmp_path / "run", CPU).fit()
    assert [row["epoch"] for row in rows(tmp_path / "run") if "epoch" in row] == [1, 2]


def test_a_folder_with_a_run_is_not_overwritten(settings: Callable[..., Config], tmp_path: Path) -> None:
    config = settings(trainer={"epochs": 1})
    build_trainer(config, tmp_path / "run", CPU).fit()
    before = (tmp_path / "run/checkpoints/last.pt").read_bytes()
    with pytest.raises(ValueError, match="already holds a run; add --resume"):
        build_trainer(config, tmp_path / "run", CPU)
    with pytest.raises(ValueError, match=r"(?s)another config.*optimizer.lr: 0.001 in the checkpoint, 0.5 now"):
        build_trainer(settings(trainer={"epochs": 1}, optimizer={"lr": 0.5}), tmp_path / "run", CPU, resume=True)
    assert (tmp_path / "run/checkpoints/last.pt").read_bytes() == before
    # More epochs are no other run.
    build_trainer(settings(trainer={"epochs": 2}, schedule={"name": "constant"}), tmp_path / "longer", CPU).fit()


def test_truncated_checkpoint_is_named(settings: Callable[..., Config], tmp_path: Path) -> None:
    config = settings(trainer={"epochs": 1})
    build_trainer(config, tmp_path / "run", CPU).fit()
    last = tmp_path / "run/checkpoints/last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"last.pt is truncated or corrupt"):
        build_trainer(config, tmp_path / "run", CPU, resume=True)


def test_non_finite_loss_names_step_term_and_samples(settings: Callable[..., Config], tmp_path: Path) -> None:
    trainer = build_trainer(settings(trainer={"checkpoint_every": 1}), tmp_path / "run", CPU)
    train_step = trainer._train_step
    poisoned: list[int] = []

    def step(ddp: nn.Module, batch: Any) -> None:
        if trainer.step == 5:
            batch = batch.to("cpu")
            batch.images[2] = float("nan")
            poisoned.append(int(batch.index[2]))
        train_step(ddp, batch)

    trainer._train_step = step  # type: ignore[method-assign]
    trainer.objective.model.eval()
    trainer.objective.train = lambda mode=True: trainer.objective  # type: ignore[method-assign,assignment]
    with pytest.raises(NonFiniteError, match=r"not finite at step 5: ") as error:
        trainer.fit()
    assert f"classification (samples [{poisoned[0]}])" in str(error.value)
    saved = checkpoint.load(tmp_path / "run/checkpoints/last.pt")
    assert saved["step"] == 5
    assert all(torch.isfinite(v).all() for v in saved["model"].values())


def test_full_disk_keeps_the_previous_checkpoint(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build_trainer(settings(trainer={"checkpoint_every": 1}), tmp_path / "run", CPU)
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if trainer.step == 3 and str(target).endswith(".pt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"last.pt.*No space left.*previous checkpoint .* untouched"):
        trainer.fit()
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 2
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_random_state_round_trip() -> None:
    import random

    import numpy

    state = get_rng()
    first = (torch.rand(3).tolist(), numpy.random.rand(3).tolist(), random.random())
    set_rng(state)
    assert (torch.rand(3).tolist(), numpy.random.rand(3).tolist(), random.random()) == first


def test_dry_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    assert build_trainer(settings(), tmp_path / "run", CPU, dry_run=True).fit()
    assert [row["step"] for row in rows(tmp_path / "run") if "epoch" in row] == [2]


def test_more_epochs_resume_unless_the_schedule_depends_on_them(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    def config(epochs: int, name: str) -> Config:
        return settings(trainer={"epochs": epochs}, schedule={"name": name})

    for name in ("constant", "cosine"):
        build_trainer(config(1, name), tmp_path / name, CPU).fit()
    build_trainer(config(2, "constant"), tmp_path / "constant", CPU, resume=True).fit()
    assert [row["epoch"] for row in rows(tmp_path / "constant") if "epoch" in row] == [1, 2]
    with pytest.raises(ValueError, match=r"(?s)another config.*trainer.epochs: 1 in the checkpoint, 2 now"):
        build_trainer(config(2, "cosine"), tmp_path / "cosine", CPU, resume=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_named_or_counted(settings: Callable[..., Config], tmp_path: Path, workers: int) -> None:
    root = tmp_path / "demo"
    generate_demo(root, num_train=26, num_val=10, num_test=11, image_size=32)
    broken = load_demo(root, "train", num_train=26, num_val=10, num_test=11, image_size=32).records[3].path
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    data = {"root": str(root), "num_workers": workers}
    with pytest.raises(ValueError, match=rf"(?s)demo train: unreadable images \(1\)\n.*{broken.name}.*on_error: skip"):
        build_trainer(settings(data=data), tmp_path / "never", CPU)
    assert not (tmp_path / "never").exists()
    data["check"] = "headers"
    with pytest.raises(ValueError, match=rf"^[^\n]*{broken.name}[^\n]*$"):  # one line, not a worker's traceback
        build_trainer(settings(data=data, trainer={"epochs": 2}), tmp_path / "raise", CPU).fit()
    build_trainer(settings(data=data | {"on_error": "skip"}, trainer={"epochs": 1}), tmp_path / "skip", CPU).fit()
    (epoch,) = [row for row in rows(tmp_path / "skip") if "epoch" in row]
    assert epoch["train/skipped"] in (0, 1)  # 24 of 26 images are in an epoch


def test_annotated_images_do_not_come_first(settings: Callable[..., Config], tmp_path: Path) -> None:
    trainer = build_trainer(settings(data={"annotated_fraction": 0.25}), tmp_path / "run", CPU)
    annotated = set(json.loads((tmp_path / "run/annotated.json").read_text())["indices"])
    first = [index for keys in list(trainer.loader.batches)[:1] for _, index in keys]
    assert len(annotated) == 6
    assert set(first) != annotated
