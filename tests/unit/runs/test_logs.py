"""What the loggers write, and what is left of it after a kill and a resume."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidance import distributed
from guidance.runs.logs import Console, JsonLines, Logger, Loggers, TensorBoard, open_loggers


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()


def test_one_object_per_line(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "run" / "metrics.jsonl")
    log.log(10, {"train/loss": 0.1, "epoch": 2, "f1": float("nan"), "epg": -math.inf, "iou": np.float32(0.5)})
    written = (tmp_path / "run" / "metrics.jsonl").read_text()  # before close: every line is flushed
    assert written == '{"step": 10, "train/loss": 0.1, "epoch": 2, "f1": null, "epg": null, "iou": 0.5}\n'
    log.close()


def test_numbers_are_written_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    JsonLines(tmp_path / "x.jsonl").log(1, {"a": value})
    assert lines(tmp_path / "x.jsonl")[0]["a"] == value


def test_resume_removes_what_will_be_logged_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = JsonLines(path)
    for step in (10, 20, 20, 30):
        log.log(step, {"loss": step / 100})
    log.close()
    path.write_text(path.read_text() + '{"step": 40, "lo')  # the kill came while this was written
    log = JsonLines(path, resume_step=20)
    assert [line["step"] for line in lines(path)] == [10, 20, 20]
    log.log(30, {"loss": 0.5})
    log.close()
    assert [line["step"] for line in lines(path)] == [10, 20, 20, 30]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    JsonLines(path, resume_step=0).close()
    assert path.read_text() == ""


def test_resume_without_a_file_and_start_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, resume_step=5).log(6, {"a": 1})
    assert lines(path) == [{"step": 6, "a": 1}]
    JsonLines(path).log(1, {"a": 2})
    assert lines(path) == [{"step": 1, "a": 2}]


@pytest.mark.parametrize("broken", ["oops", '{"loss": 1}', "[1]", '{"step": null}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{broken}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is not a JSON object with a step"):
        JsonLines(path, resume_step=2)
    assert len(path.read_text().splitlines()) == 3


def test_damaged_bytes_of_a_line_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1, "\xff": 2}\n'
    path.write_bytes(content + b'{"step": 2}\n')
    JsonLines(path, resume_step=1).close()
    assert path.read_bytes() == content


def test_a_kill_while_resuming_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        JsonLines(path, resume_step=1)
    assert len(lines(path)) == 2


def test_console_prints_epochs_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.log(5, {"step/loss": 0.123456})
    assert capsys.readouterr().out == ""
    console.log(40, {"epoch": 2, "train/loss": 0.123456, "val/f1": 0.8, "val/epg": float("nan"), "all": 640})
    assert capsys.readouterr().out == "epoch 2 (step 40): train/loss 0.1235  val/f1 0.8  val/epg nan  all 640\n"


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


def test_hparams_stay_in_the_run(tmp_path: Path) -> None:
    api = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    log = TensorBoard(tmp_path)
    config = {"optimizer.lr": 0.1, "trainer.epochs": 3, "flip": True, "metrics": ["f1"], "clip": None, "name": "adam"}
    log.log(7, {"f1": 0.2})
    for value in (0.5, float("nan")):
        log.hparams(config, {"f1": value})
    log.close()
    assert [path.is_dir() for path in tmp_path.iterdir()] == [False]
    read = events(tmp_path)
    (only,) = read.Scalars("hparams/f1")
    assert (only.step, only.value) == (7, 0.5)
    assert [event.value for event in read.Scalars("f1")] == [pytest.approx(0.2)]
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = api.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["optimizer.lr"].number_value == 0.1
    assert {name: settings[name].string_value for name in ("flip", "metrics", "name")} == {
        "flip": "True", "metrics": "['f1']", "name": "adam",
    }  # fmt: skip
    assert "clip" not in settings  # not the text "None"


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


class Recorder(Logger):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def log(self, step: int, values: Any) -> None:
        self.calls.append("log")

    def image(self, step: int, tag: str, image: Any) -> None:
        self.calls.append("image")

    def hparams(self, config: Any, metrics: Any) -> None:
        self.calls.append("hparams")

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def call_all(log: Logger) -> None:
    log.log(1, {"a": 1.0})
    log.image(1, "x", np.zeros((1, 1, 3), dtype=np.uint8))
    log.hparams({}, {})
    log.flush()
    log.close()


def test_several_loggers_and_none() -> None:
    recorders = [Recorder(), Recorder()]
    call_all(Loggers([recorders[0], Logger(), recorders[1]]))
    assert [recorder.calls for recorder in recorders] == [["log", "image", "hparams", "flush", "close"]] * 2
    call_all(Loggers())
    call_all(Console())


def test_loggers_of_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for resume_step, values in ((None, (1.0, 2.0, 3.0)), (1, (20.0, 30.0))):
        log = open_loggers(tmp_path, resume_step=resume_step)
        for step, value in enumerate(values, start=1 if resume_step is None else resume_step + 1):
            log.log(step, {"loss": value})
        log.close()
    assert [line["loss"] for line in lines(tmp_path / "metrics.jsonl")] == [1.0, 20.0, 30.0]
    assert [event.value for event in events(tmp_path / "tensorboard").Scalars("loss")] == [1.0, 20.0, 30.0]

    monkeypatch.setattr(distributed, "rank", lambda: 1)
    call_all(open_loggers(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_tensorboard_can_be_left_out(tmp_path: Path) -> None:
    call_all(open_loggers(tmp_path, tensorboard=False))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
