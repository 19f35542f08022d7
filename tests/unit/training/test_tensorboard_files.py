"""What TensorBoard finds of a run that was killed and resumed: the same as of one that was not, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.training.trainer import Trainer
from tests.support.runs import CPU, events, timed

pytestmark = pytest.mark.usefixtures("tiny", "ordered")
writers = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
Make = Callable[..., Config]
Trained = Callable[..., Path]
PICTURES: dict[str, Any] = {"probe_images": 2}


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in the order of their names, which end in a number of the process; these tests have one process."""
    monkeypatch.setattr(writers, "_global_uid", type(writers._global_uid)(0))


def read(folder: Path) -> dict[str, Any]:
    """Points of every scalar, of times only their steps; steps of every picture; how often each other tag was written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = events(folder / "tensorboard")
    scalars = [tag for tag in found.Tags()["scalars"] if not timed(tag)]
    paths = [str(path) for path in (folder / "tensorboard").iterdir()]
    tags = Counter(
        value.tag for path in paths for event in EventFileLoader(path).Load() for value in event.summary.value
    )
    return {
        "scalars": {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in sorted(scalars)},
        "times": {tag: [p.step for p in found.Scalars(tag)] for tag in sorted(found.Tags()["scalars"]) if timed(tag)},
        "pictures": {tag: [picture.step for picture in found.Images(tag)] for tag in found.Tags()["images"]},
        "others": {tag: count for tag, count in tags.items() if tag.startswith(("_hparams_", "custom_scalars"))},
    }


def killed(config: Config, folder: Path, name: str, step: int) -> None:
    """A run that dies at that step, before (`_train_step`) or after (the others) it did what `name` does."""
    trainer = build_trainer(config, folder, CPU)
    original = getattr(trainer, name)

    def dying(*args: Any, **more: Any) -> Any:
        if name == "_train_step" and trainer.step == step:
            raise Killed
        result = original(*args, **more)
        if name != "_train_step" and trainer.step == step:
            raise Killed
        return result

    setattr(trainer, name, dying)
    with pytest.raises(Killed):
        trainer.fit()
    trainer.log.close()  # all that it logged is on disk: the worst case


@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param("_train_step", 2, marks=pytest.mark.long),  # before the first checkpoint
        ("_train_step", 7),  # beyond one
        pytest.param("_train_step", 8, marks=pytest.mark.long),  # right after an epoch
        ("evaluate", 8),  # its pictures are there, its metrics not
        pytest.param("_finish_epoch", 8, marks=pytest.mark.long),
    ],
)
def test_nothing_twice_and_nothing_missing(
    settings: Make, trained: Trained, tmp_path: Path, name: str, step: int
) -> None:
    config = settings(log=PICTURES)
    killed(config, tmp_path / "killed", name, step)
    build_trainer(config, tmp_path / "killed", CPU, resume=True).fit()
    assert read(tmp_path / "killed") == read(trained(log=PICTURES))


def test_killed_after_the_metrics_were_logged_and_before_the_checkpoint(
    settings: Make, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the epoch is written again at the same step; the numbers of the step itself are kept."""
    config = settings(log=PICTURES)
    saves = Trainer._save
    seen: list[int] = []

    def dying(self: Trainer) -> None:
        seen.append(self.step)
        if seen.count(8) == 2:
            raise Killed
        saves(self)

    monkeypatch.setattr(Trainer, "_save", dying)
    trainer = build_trainer(config, tmp_path / "killed", CPU)
    with pytest.raises(Killed):
        trainer.fit()
    trainer.log.close()
    monkeypatch.setattr(Trainer, "_save", saves)
    build_trainer(config, tmp_path / "killed", CPU, resume=True).fit()
    found = read(tmp_path / "killed")
    assert [step for step, _ in found["scalars"]["val/f1"]] == [4, 8, 12]
    assert [step for step, _ in found["scalars"]["step/classification"]] == [2, 4, 6, 8, 10, 12]
    assert found == read(trained(log=PICTURES))


def test_runs_can_be_compared(settings: Make, tmp_path: Path) -> None:
    """Runs with other settings have the same columns; results are the last values of the curves; one layout with the front."""
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.hparams import plugin_data_pb2

    runs = {
        "plain": settings(trainer={"epochs": 1}, pareto={"metrics": ["accuracy"]}),
        "clipped": settings(trainer={"epochs": 1, "clip_norm": 1.0}),
    }
    columns, layouts = {}, {}
    for name, config in runs.items():
        build_trainer(config, tmp_path / name, CPU).fit()
        found = events(tmp_path / name / "tensorboard")
        assert read(tmp_path / name)["others"] == {
            "_hparams_/experiment": 1, "_hparams_/session_start_info": 1, "custom_scalars__config__": 1,
        }  # fmt: skip
        contents = {
            tag: plugin_data_pb2.HParamsPluginData.FromString(found.summary_metadata[tag].plugin_data.content)
            for tag in ("_hparams_/experiment", "_hparams_/session_start_info")
        }
        experiment = contents["_hparams_/experiment"].experiment
        columns[name] = (
            {info.name for info in experiment.hparam_infos}, [info.name.tag for info in experiment.metric_infos]
        )  # fmt: skip
        chosen = contents["_hparams_/session_start_info"].session_start_info.hparams
        assert chosen["optimizer.lr"].number_value == config.optimizer.lr
        assert ("trainer.clip_norm" in chosen) == (name == "clipped")  # not the text "None"
        assert {"val/f1", "val/epg"} <= set(found.Tags()["scalars"])
        (event,) = found.Tensors("custom_scalars__config__")
        layouts[name] = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert columns["plain"] == columns["clipped"]
    assert "trainer.clip_norm" in columns["plain"][0]
    assert {"val/f1", "val/accuracy", "val/epg", "val/iou"} <= set(columns["plain"][1])
    charts = {c.title: list(c.multiline.tag) for section in layouts["clipped"].category for c in section.chart}
    assert charts["f1, epg, iou"] == ["val/f1$", "val/epg$", "val/iou$"]
    assert charts["classification"] == ["train/classification$", "val/classification$"]
    assert [c.title for c in layouts["plain"].category[0].chart] == ["accuracy"]


def test_a_resumed_run_shows_its_settings_of_now(settings: Make, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    constant = {"name": "constant"}
    build_trainer(settings(trainer={"epochs": 1}, schedule=constant), tmp_path, CPU).fit()
    build_trainer(settings(trainer={"epochs": 2}, schedule=constant), tmp_path, CPU, resume=True).fit()
    metadata = events(tmp_path / "tensorboard").summary_metadata["_hparams_/session_start_info"]
    chosen = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert chosen["trainer.epochs"].number_value == 2
