"""A run that starts from the weights of another makes its images as that one did, unless it says otherwise."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidance.assembly import build_classifier, build_trainer
from guidance.assembly.pretrained import like_weights
from guidance.config import Config
from guidance.runs import checkpoint
from tests.support.runs import CPU, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")
INPUT = {"mean": [0.4, 0.3, 0.2], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 0.9}


@pytest.fixture
def weights(demo_root: Path, tmp_path: Path) -> Path:
    """The checkpoint of a run with images of its own kind."""
    config = tiny_config(demo_root, model={"input": INPUT}, data={"image_size": 48})
    model = build_classifier(config, 4, pretrained=False)
    state = {"config": config.model_dump(mode="json"), "classes": list("abcd"), "model": model.state_dict()}
    checkpoint.save(tmp_path / "before/checkpoints/last.pt", state | {"metrics": None, "epoch": 1, "step": 4})
    return tmp_path / "before/checkpoints/last.pt"


def started(root: Path, weights: Path | str, **model: Any) -> Config:
    """The config of a run from these weights, which does not say how large its images are."""
    config = tiny_config(root, model={"weights": str(weights), **model})
    return config.model_copy(
        update={"data": type(config.data).model_validate(config.data.model_dump(exclude={"image_size"}))}
    )


def test_what_is_not_set_is_that_of_the_run(demo_root: Path, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = like_weights(started(demo_root, weights))
    assert config.model.input.model_dump() == INPUT
    assert config.data.image_size == 48
    assert f"as the weights {weights} were trained: data.image_size 48, model.input.mean [0.4, 0.3, 0.2]" in caplog.text
    caplog.clear()
    assert like_weights(config) == config
    assert not caplog.text


def test_what_is_set_stays(demo_root: Path, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = like_weights(started(demo_root, weights, input={"interpolation": "bilinear", "std": [0.5, 0.5, 0.5]}))
    assert config.model.input.model_dump() == INPUT | {"interpolation": "bilinear"}
    assert f"model.input.interpolation is bilinear, but the weights {weights} were trained with bicubic" in caplog.text
    assert like_weights(tiny_config(demo_root, model={"weights": str(weights)})).data.image_size == 32
    assert "data.image_size is 32, but the weights" in caplog.text
    with pytest.raises(
        ValueError, match=r"model\.input\.mean is \[0\.1, .* were trained with \[0\.4, .*; leave it out"
    ):
        like_weights(started(demo_root, weights, input={"mean": [0.1, 0.1, 0.1]}))


def test_other_weights_leave_everything(demo_root: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"PK")
    for other in ("none", tmp_path / "missing.pt", tmp_path / "broken.pt"):
        config = started(demo_root, other)
        assert like_weights(config) is config


def test_a_run_stores_it_and_goes_on_so(demo_root: Path, weights: Path, tmp_path: Path) -> None:
    """Also where the run that it started from is gone, and where it did not know of this: it keeps what it has."""
    config, folder = tiny_config(demo_root, model={"weights": str(weights)}, trainer={"epochs": 1}), tmp_path / "run"
    trainer = build_trainer(config, folder, CPU)
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["input"] == INPUT
    assert trainer.fit()
    trainer.log.close()
    weights.unlink()
    build_trainer(config, folder, CPU, resume=True).log.close()
    state = checkpoint.load(folder / "checkpoints/last.pt")
    assert state["config"]["model"].pop("input") == INPUT
    checkpoint.save(folder / "checkpoints/last.pt", state)
    assert like_weights(config, folder) is config
