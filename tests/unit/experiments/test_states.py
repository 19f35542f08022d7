"""How far a run has come, and which checkpoint of a stage is chosen, from files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

from guidance.config import Config, dump_config, override_config, parse_config
from guidance.experiments.choices import choose
from guidance.experiments.outcomes import Outcome, error_line, last_step, read_outcome, write_outcome
from guidance.experiments.states import config_to_resume, state_of
from tests.unit.experiments.pretended import BASE, save_checkpoint


def write_run(folder: Path, config: Config, **saved: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config))
    if saved:
        save_checkpoint(folder / "checkpoints/last.pt", **saved)


@pytest.fixture
def config() -> Config:
    return parse_config(BASE)


def test_new_interrupted_finished_failed(tmp_path: Path, config: Config) -> None:
    failed = Outcome("failed", "no room")
    assert state_of(tmp_path, config).kind == "new"
    assert (state_of(tmp_path, config, failed).kind, state_of(tmp_path, config, failed).remark) == ("failed", "no room")
    write_run(tmp_path, config)
    assert (state_of(tmp_path, config).kind, state_of(tmp_path, config).epoch) == ("interrupted", 0)
    write_run(tmp_path, config, epoch=1)
    found = state_of(tmp_path, config)
    assert (found.kind, found.epoch, found.step) == ("interrupted", 1, 1)
    found = state_of(tmp_path, config, failed)
    assert (found.kind, found.epoch, found.remark) == ("failed", 1, "no room")
    write_run(tmp_path, config, epoch=2)
    assert state_of(tmp_path, config, failed).kind == "finished"
    assert (
        state_of(tmp_path, override_config(config, ["trainer.epochs=3"])).kind == "interrupted"
    )  # it may be made longer


def test_a_run_that_gave_up_is_finished(tmp_path: Path, config: Config) -> None:
    from guidance.runs import checkpoint

    stops = override_config(config, ["trainer.epochs=9", "trainer.early_stop={metric: f1, minimum: 0.5, epochs: 2}"])
    write_run(tmp_path, stops, epoch=2)
    state = checkpoint.load(tmp_path / "checkpoints/last.pt")
    for best, position, kind in ((0.4, 0, "finished"), (0.6, 0, "interrupted"), (0.4, 3, "interrupted")):
        checkpoint.save(
            tmp_path / "checkpoints/last.pt", state | {"trainer": {"best": {"f1": best}, "position": position}}
        )
        assert state_of(tmp_path, stops).kind == kind


def test_what_makes_it_another_run(tmp_path: Path, config: Config) -> None:
    write_run(tmp_path, config, epoch=2)
    other = override_config(config, ["optimizer.lr=0.5", "data.root=/moved", "data.num_workers=0", "log.every=1"])
    found = state_of(tmp_path, other)
    assert (found.kind, found.remark) == ("changed", "optimizer.lr: 0.0001 in the folder, 0.5 in the experiment")


def test_an_experiment_may_be_moved_but_not_start_from_another_checkpoint(tmp_path: Path, config: Config) -> None:
    def with_weights(path: str) -> Config:
        return override_config(config, [f"model.weights={path}"])

    run = "runs/baseline/0000/checkpoints/pareto"
    write_run(tmp_path, with_weights(f"/old/{run}/epoch_0001.pt"), epoch=2)
    moved = with_weights(f"/new/place/{run}/epoch_0001.pt")
    assert state_of(tmp_path, moved).kind == "finished"
    assert config_to_resume(tmp_path, moved).model.weights == f"/old/{run}/epoch_0001.pt"
    for other in (f"/old/{run}/epoch_0002.pt", f"/old/{run.replace('0000', '0001')}/epoch_0001.pt", "imagenet"):
        assert "model.weights" in state_of(tmp_path, with_weights(other)).remark, other


def test_how_a_start_ended_is_kept_and_told(tmp_path: Path) -> None:
    place = tmp_path / "logs/g/0000.json"
    assert read_outcome(place) is None
    write_outcome(place, Outcome("failed", "x", 1.5, 3))
    assert read_outcome(place) == Outcome("failed", "x", 1.5, 3)
    place.write_text("{")
    with pytest.raises(ValueError, match="does not say how a run ended"):
        read_outcome(place)
    assert error_line("a\nerror: one\n  more\nerror: two\nend\n\n", 2) == "two (exit code 2)"
    assert error_line("Traceback\n  x\ntorch.OutOfMemoryError: no\n", 1) == "torch.OutOfMemoryError: no (exit code 1)"
    assert error_line("just this\n", 3) == "just this (exit code 3)"
    assert error_line("", 1) == "it printed nothing (exit code 1)"
    assert error_line("x", -9) == "it was ended by SIGKILL, as by the system where memory runs out"
    assert error_line("x", -15) == "it was ended by SIGTERM"
    log = tmp_path / "metrics.jsonl"
    assert last_step(log) == 0
    log.write_text('{"step": 3}\n{"step": 7}\n{"ste')
    assert last_step(log) == 7


def fronts(folder: Path, **runs: dict[int, dict[str, float]]) -> dict[str, Path]:
    for name, epochs in runs.items():
        for epoch, metrics in epochs.items():
            path = folder / name / f"checkpoints/pareto/epoch_{epoch:04d}.pt"
            save_checkpoint(path, epoch=epoch, **metrics)
    return {name: folder / name for name in runs}


def test_the_best_checkpoint_by_the_direction_of_the_metric(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Higher F1 and lower sparsity are better; the earliest wins a tie; NaN is not chosen, and told of."""
    folders = fronts(
        tmp_path,
        a={1: {"f1": 0.5, "sparsity": 0.3}, 2: {"f1": math.nan, "sparsity": 0.2}},
        b={1: {"f1": 0.7, "sparsity": 0.9}, 3: {"f1": 0.7, "sparsity": 0.2}},
    )
    with caplog.at_level(logging.WARNING):
        found = choose(folders, "f1")
    assert (found.run, found.path) == ("b", tmp_path / "b/checkpoints/pareto/epoch_0001.pt")
    assert found.reason == "f1 0.7000 at epoch 1"
    assert "f1 is not defined for a at epoch 2" in caplog.text
    assert choose(folders, "sparsity")[:2] == ("a", tmp_path / "a/checkpoints/pareto/epoch_0002.pt")
    with pytest.raises(ValueError, match="no checkpoint of a, b has a value of epg"):
        choose(folders, "epg")
    assert choose({"a": tmp_path / "a"}, None)[:2] == ("a", tmp_path / "a/checkpoints/last.pt")
