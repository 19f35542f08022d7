"""One net for two tasks of the same images: its classes stand for others, and its fixed group for the complement."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier, build_source, build_trainer
from guidance.assembly.evaluation import check_selection
from guidance.config import parse_config
from guidance.inference import evaluate_in_detail
from guidance.runs.checkpoint import FORMAT, VERSION, save


def untrained(root: Path, folder: Path, metrics: dict[str, float]) -> Path:
    """The checkpoint of a net that was not trained, for the birds of the real sample."""
    config = parse_config({
        "data": {"name": "waterbirds", "root": str(root), "image_size": 32, "num_workers": 0},
        "model": {"name": "tiny"}, "evaluation": {"batch_size": 60, "iou_threshold": "fit" if metrics else 0.5},
    })  # fmt: skip
    model = build_classifier(config, 2, pretrained=False)
    save(folder / "net.pt", {
        "format": FORMAT, "version": VERSION, "config": config.model_dump(mode="json"),
        "classes": ["landbird", "waterbird"], "model": model.state_dict(), "metrics": metrics, "epoch": 1, "step": 1,
    })  # fmt: skip
    return folder / "net.pt"


@pytest.fixture
def net(waterbirds_root: Path, tmp_path: Path, tiny: None) -> Path:
    return untrained(waterbirds_root, tmp_path, {})


def test_a_baseline_serves_the_reversed_task(net: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where bird and background disagree, what is right of one is wrong of the other (43.4 and 56.6 in Rao et al., Table 1)."""
    caplog.set_level("INFO")
    birds = evaluate_in_detail(net, "test")
    assert not caplog.records
    background = evaluate_in_detail(net, "test", overrides=["data.task=background"])
    assert (
        "data.task is not that of the run: its classes now stand for others (land for landbird, water for waterbird)"
        in caplog.text
    )
    assert torch.equal(birds.rows.logits, background.rows.logits)
    for group in ("landbird/water", "waterbird/land"):
        name = f"accuracy_group/{group}"
        assert background.metrics[name] == pytest.approx(1 - birds.metrics[name])
    fixed = [found.metrics["fixed_group_accuracy"] for found in (birds, background)]
    assert sum(fixed) == pytest.approx(1)
    assert fixed[0] == birds.metrics["accuracy_group/waterbird/land"]
    # The other maps of the other half of the image.
    assert background.metrics["epg_chance"] == pytest.approx(1 - birds.metrics["epg_chance"], abs=1e-6)


def test_what_was_fitted_on_the_other_half_of_the_images_is_told(
    waterbirds_root: Path, tmp_path: Path, tiny: None, caplog: pytest.LogCaptureFixture
) -> None:
    net = untrained(waterbirds_root, tmp_path, {"iou_threshold": 0.25})
    found = evaluate_in_detail(net, "val", overrides=["data.task=background", "evaluation.iou_threshold=fit"])
    assert "other now: data.task): so IoU is not the best" in caplog.text
    assert str(found.settings["iou_threshold_from"]).endswith("; other now: data.task")


def test_a_fixed_group_that_is_not_there_cannot_select(waterbirds_root: Path, tmp_path: Path, tiny: None) -> None:
    """Training has no waterbird on land, nor has what is held out of it, nor the filtered validation split."""
    data = {"name": "waterbirds", "root": str(waterbirds_root), "image_size": 32, "num_workers": 0, "check": "headers"}
    for validation in ("held_out", "filtered"):
        config = parse_config({
            "data": data | {"validation": validation}, "model": {"name": "tiny"},
            "pareto": {"metrics": ["fixed_group_accuracy"]},
        })  # fmt: skip
        with pytest.raises(
            ValueError, match=r"fixed_group_accuracy selects, but .* has no image of waterbird/land here"
        ):
            build_trainer(config, tmp_path / validation, torch.device("cpu"))
    official = parse_config({"data": data, "model": {"name": "tiny"}, "pareto": {"metrics": ["fixed_group_accuracy"]}})
    check_selection(official, build_source(official, "val"))


def test_other_classes_without_such_an_intention_are_an_error(net: Path, demo_root: Path) -> None:
    changed = [
        "data={name: demo, root: " + str(demo_root) + ", num_train: 26, num_val: 10, num_test: 11, image_size: 32}"
    ]
    with pytest.raises(
        ValueError, match="was trained on the classes landbird, waterbird, but demo test has ring, cross"
    ):
        evaluate_in_detail(net, "test", overrides=changed)
