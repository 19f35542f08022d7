"""A run is explained in its own way: its method, depth, classes and pre-processing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from guidance import explain, load_run
from guidance.assembly import build_trainer
from guidance.inference import Run
from tests.support.runs import CPU, Make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def run(folder: Path, settings: Make) -> Run:
    if not any(folder.iterdir()):
        build_trainer(settings(trainer={"epochs": 0}, objective={"attribution": {"depth": "mid1"}}), folder, CPU).fit()
    return load_run(folder)


def test_a_run_is_explained_in_its_own_way(run: Run, demo_root: Path) -> None:
    path = next((demo_root / "images/test").iterdir())
    found = explain(run, path, run.classes[1])
    assert torch.equal(found.maps, run.explain(path, run.classes[1]))
    assert found.raw.shape == (16, 16)  # at mid1
    assert dict(zip(run.classes, found.logits.tolist(), strict=True)) == run.predict(path)
    torch.testing.assert_close(found.probabilities.sum(), torch.tensor(1.0))
    assert found.overlay().size == (32, 32)
    assert torch.equal(explain(run, Image.open(path), 1).maps, found.maps)
    assert explain(run, path, 1, attribution="gradcam").raw.shape == (8, 8)  # at final


def test_classes_compete_by_the_lens_of_a_run(folder: Path, run: Run, demo_root: Path) -> None:
    path, (first, second, *_) = next((demo_root / "images/test").iterdir()), run.classes
    lens = load_run(
        folder, overrides=["evaluation.attribution.lens.classes=top2", "evaluation.attribution.lens.normalize=true"]
    )
    assert torch.equal(explain(lens, path, first, against=[second]).maps, lens.explain(path, first, against=[second]))
    assert not torch.equal(explain(run, path, first, against=[second]).maps, explain(run, path, first).maps)


def test_a_run_with_bce_tells_each_class_by_itself(run: Run, folder: Path, demo_root: Path) -> None:
    path = next((demo_root / "images/test").iterdir())
    found = explain(load_run(folder, overrides=["objective.classification=bce"]), path)
    assert torch.equal(found.probabilities, found.logits.sigmoid())
