"""One net for two tasks of the same images: its classes stand for others, and its fixed group for the complement."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier
from guidance.config import parse_config
from guidance.inference import evaluate_in_detail
from guidance.runs.checkpoint import FORMAT, VERSION, save


@pytest.fixture
def net(waterbirds_root: Path, tmp_path: Path, tiny: None) -> Path:
    """A net that was not trained, for the birds of the real sample."""
    config = parse_config({
        "data": {"name": "waterbirds", "root": str(waterbirds_root), "image_size": 32, "num_workers": 0},
        "model": {"name": "tiny"}, "evaluation": {"batch_size": 60},
    })  # fmt: skip
    model = build_classifier(config, 2, pretrained=False)
    save(tmp_path / "net.pt", {
        "format": FORMAT, "version": VERSION, "config": config.model_dump(mode="json"),
        "classes": ["landbird", "waterbird"], "model": model.state_dict(), "metrics": {}, "epoch": 1, "step": 1,
    })  # fmt: skip
    return tmp_path / "net.pt"


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


def test_other_classes_without_such_an_intention_are_an_error(net: Path, demo_root: Path) -> None:
    changed = [
        "data={name: demo, root: " + str(demo_root) + ", num_train: 26, num_val: 10, num_test: 11, image_size: 32}"
    ]
    with pytest.raises(
        ValueError, match="was trained on the classes landbird, waterbird, but demo test has ring, cross"
    ):
        evaluate_in_detail(net, "test", overrides=changed)
