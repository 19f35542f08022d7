"""Run folders and checkpoints of an earlier commit still load, evaluate, join a front and resume, with the same results.

tests/old_runs was written by the commit 6547258, before the package was rearranged: two runs of three epochs that were stopped
in the second one, and what the same runs gave when they were not stopped.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import load_config
from guidance.inference import evaluate_in_detail, load_run
from guidance.models import BACKBONES, Backbone
from launch import train
from tests.support.runs import build_tiny, rows
from tools import select_pareto

OLD = Path(__file__).parents[1] / "old_runs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((OLD / "expected.json").read_text())
CPU = torch.device("cpu")
each_run = pytest.mark.parametrize("name", EXPECTED)


@pytest.fixture
def old(tmp_path: Path, demo_root: Path, monkeypatch: pytest.MonkeyPatch, tiny: None) -> Path:
    """Copies of the old runs, in a folder from which their data are found."""
    stages = Backbone(
        build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4, channels=(8, 8), first_stage=1
    )  # fmt: skip
    monkeypatch.setitem(BACKBONES, "tiny_stages", stages)
    shutil.copytree(OLD, tmp_path / "old")
    (tmp_path / "demo").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "old"


def close(found: dict[str, float], expected: dict[str, float | None]) -> None:
    """Equal up to what another processor may round; null stands for NaN."""
    wanted = {name: math.nan if value is None else value for name, value in expected.items()}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-4, nan_ok=True)


@each_run
def test_a_stopped_run_goes_on_to_the_same_results(old: Path, name: str) -> None:
    folder = old / name
    trainer = build_trainer(load_config(folder / "config.yaml"), folder, CPU, resume=True)
    assert (trainer.epoch, trainer.step) == (1, 6)
    assert trainer.fit()
    trainer.log.close()
    expected = EXPECTED[name]
    sums = {
        key: [float(v.double().sum()), float(v.double().abs().sum())]
        for key, v in trainer.objective.model.state_dict().items()
    }
    assert sums.keys() == expected["sums"].keys()
    for key, values in sums.items():
        # A bias in front of a batch norm has no gradient but rounding, of which Adam makes a step of the size of its rate; the
        # mean that is subtracted moves along.
        drifts = key.endswith(("conv1.bias", "bn1.running_mean"))
        noise = 8 * 6 * 1e-3 if drifts else 1e-4  # channels x steps since the checkpoint x rate
        assert values == pytest.approx(expected["sums"][key], rel=1e-4, abs=noise), key
    close(trainer.history.metrics, expected["metrics"])
    found = evaluate_in_detail(folder, "test")
    close(found.metrics, expected["test"])
    assert [line["epoch"] for line in rows(folder) if "epoch" in line] == [1, 2, 3]


@each_run
def test_an_old_run_keeps_the_protocol_that_it_was_trained_with(old: Path, name: str) -> None:
    """Settings that came later mean what was done before there were any, whatever the default of a new config is."""
    config = load_config(old / name / "config.yaml")
    assert load_run(old / name).config == config
    data, evaluation = config.data, config.evaluation
    assert (data.crop, data.annotated_of, data.augmentation, evaluation.crop) == ("none", "regions", "none", "none")
    assert (evaluation.iou_threshold, evaluation.threshold_fraction, evaluation.pixel_map) == ("fit", 0.0, "raw")
    assert config.pareto.metrics == ["f1", "epg", "iou"]
    if name == "aim":
        assert (config.aim.threshold, config.aim.skip, config.aim.classifier_dropout) == (0.25, False, 0.0)  # type: ignore[attr-defined]


@each_run
def test_a_checkpoint_of_the_front_is_evaluated_and_used(old: Path, name: str) -> None:
    checkpoint = old / name / "checkpoints" / "pareto" / "epoch_0001.pt"
    run = load_run(checkpoint)
    found = evaluate_in_detail(checkpoint, "val")
    close(found.metrics, run.metrics)
    assert run.explain(
        Path("demo") / found.source.records[0].path.relative_to(found.config.data.root), run.classes[0]
    ).shape == (32, 32)


def test_a_new_run_starts_from_old_weights(old: Path) -> None:
    for name in EXPECTED:
        arguments = [
            "--config",
            str(old / name / "config.yaml"),
            "--set",
            f"model.weights={old / name}/checkpoints/last.pt",
        ]
        assert train.main([*arguments, "--dry-run"]) == 0


def test_old_runs_join_a_front(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert select_pareto.main([str(old / name) for name in EXPECTED]) == 0
    assert "checkpoints are on the front" in capsys.readouterr().out
    content = json.loads((old / "front.json").read_text())
    assert {record["run"] for record in [*content["members"], *content["others"]]} == set(EXPECTED)
