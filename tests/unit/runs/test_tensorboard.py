"""What TensorBoard finds in the files of a run."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidance.runs.logs import TensorBoard
from tests.support.runs import events


def test_scalars_and_images(tmp_path: Path) -> None:
    log = TensorBoard(tmp_path)
    log.log(1, {"loss": 0.5, "epoch": 1})
    log.log(2, {"loss": 0.25})
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    log.image(2, "probe", picture)
    log.close()
    read = events(tmp_path)
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert (read.Images("probe")[0].height, read.Images("probe")[0].width) == (4, 6)
    for wrong in (picture.astype(float), picture[..., 0], picture[..., :2]):
        with pytest.raises(ValueError, match=r"image 'probe' is .*expected uint8 \[H, W, 3\]"):
            log.image(2, "probe", wrong)


def test_epochs_are_on_disk_before_the_checkpoint(tmp_path: Path) -> None:
    log = TensorBoard(tmp_path)
    log.log(1, {"loss": 0.5, "epoch": 1})
    assert [event.value for event in events(tmp_path).Scalars("loss")] == [0.5]
    log.log(2, {"loss": 0.25})
    log.flush()
    assert len(events(tmp_path).Scalars("loss")) == 2
    log.close()


def test_purged_steps_are_hidden(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        first.log(step, {"loss": float(step)})
    first.close()
    second = TensorBoard(tmp_path, purge_step=3)
    second.log(3, {"loss": 30.0})
    second.close()
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_settings_and_results_stay_in_the_run(tmp_path: Path) -> None:
    api = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    log = TensorBoard(tmp_path)
    config = {"optimizer.lr": 0.1, "trainer.epochs": 3, "flip": True, "metrics": ["f1"], "clip": None, "name": "adam"}
    log.begin(config, ["val/f1", "val/accuracy_group/land"], {})
    log.log(7, {"val/f1": 0.2})
    log.close()
    assert [path.is_dir() for path in tmp_path.iterdir()] == [False, False]
    read = events(tmp_path)
    assert read.Tags()["scalars"] == ["val/f1"]
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = api.HParamsPluginData.FromString(content).session_start_info.hparams
    assert (settings["optimizer.lr"].number_value, settings["trainer.epochs"].number_value) == (0.1, 3)
    assert {name: settings[name].string_value for name in ("flip", "metrics", "name")} == {
        "flip": "True", "metrics": "['f1']", "name": "adam",
    }  # fmt: skip
    content = read.summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = api.HParamsPluginData.FromString(content).experiment
    assert {info.name: info.type for info in experiment.hparam_infos} == dict.fromkeys(config, 1) | {
        "optimizer.lr": 3, "trainer.epochs": 3,
    }  # fmt: skip
    assert [info.name.tag for info in experiment.metric_infos] == ["val/f1", "val_accuracy_group/land"]


def test_charts_have_points_and_those_of_classes_a_section_of_their_own(tmp_path: Path) -> None:
    log = TensorBoard(tmp_path)
    log.log(
        1, {"val/f1": 0.5, "val/seg_epg": float("nan"), "val/accuracy_group/land/water": 0.25, "val/ap_class/a": 1.0}
    )
    log.close()
    assert set(events(tmp_path).Tags()["scalars"]) == {"val/f1", "val_accuracy_group/land/water", "val_ap_class/a"}


def test_missing_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if "tensorboard" in name:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install tensorboard.*log\.tensorboard=false"):
        TensorBoard(tmp_path)
