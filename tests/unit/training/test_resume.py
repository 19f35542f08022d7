"""What may change in a run folder between a run and its --resume: settings, lost and foreign files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.inference import load_run
from guidance.runs import checkpoint
from guidance.runs.commit import commit
from guidance.runs.paths import ENVIRONMENT
from tests.support.data.layouts import write_text
from tests.support.runs import CPU, Make, assert_same, resume, rows, snapshot


def test_settings_of_how_a_run_survives_may_change(settings: Make, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "same")
    resume(settings, tmp_path / "same")
    resume(settings, stopped, data={"on_error": "skip", "check": "headers", "num_workers": 1})
    assert_same(snapshot(stopped)["last"]["model"], snapshot(tmp_path / "same")["last"]["model"])
    assert_same(rows(stopped), rows(tmp_path / "same"))
    with pytest.raises(ValueError, match=r"(?s)another config.*data.dilation: 0.0 in the checkpoint, 0.5 now"):
        resume(settings, stopped, data={"dilation": 0.5})


def test_settings_that_a_release_adds_do_not_make_another_run(settings: Make, stopped: Path) -> None:
    """A checkpoint of an earlier release lacks them, and says `attribution: null` where evaluation takes the guided one."""
    path = stopped / "checkpoints/last.pt"
    state = checkpoint.load(path)
    for name in ("check", "orientation"):
        del state["config"]["data"][name]
    state["config"]["evaluation"]["attribution"] = None
    del state["trainer"]["lines"]
    for tally in state["trainer"]["tally"]:
        del tally["clipped"]
    checkpoint.save(path, {name: value for name, value in state.items() if name not in ("format", "version", "front")})
    resume(settings, stopped)
    assert [row["epoch"] for row in rows(stopped) if "epoch" in row] == [1, 2]


def test_a_shortened_log_is_told_of(settings: Make, stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 3  # two of steps and one of the epoch
    (stopped / "metrics.jsonl").write_text(lines[0] + lines[2])
    resume(settings, stopped)
    assert "has 2 lines up to the step that is resumed, but it had 3: the others are lost" in caplog.text
    assert [row.get("epoch") for row in rows(stopped)] == [None, 1, None, None, 2]
    (stopped / "metrics.jsonl").unlink()
    caplog.clear()
    resume(settings, stopped, trainer={"epochs": 3})
    assert "has 0 lines up to the step that is resumed, but it had 5" in caplog.text
    caplog.clear()
    resume(settings, stopped, trainer={"epochs": 4})
    assert "lines" not in caplog.text


def test_a_deleted_front_is_told_of(settings: Make, stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also of a run that is done; not of one whose later members have taken the place of earlier ones."""
    caplog.set_level(logging.WARNING)
    resume(settings, stopped, trainer={"epochs": 1})
    assert "Pareto front" not in caplog.text
    (stopped / "checkpoints/pareto/epoch_0001.pt").unlink()
    resume(settings, stopped, trainer={"epochs": 1})
    assert "of the Pareto front in" in caplog.text
    assert "epoch_0001 is gone since the last checkpoint was written" in caplog.text
    state = checkpoint.load(stopped / "checkpoints/last.pt")
    later = {name: value for name, value in state.items() if name not in ("format", "version", "trainer", "front")}
    checkpoint.save(stopped / "checkpoints/pareto/epoch_0002.pt", later)
    caplog.clear()
    resume(settings, stopped)
    assert "Pareto front" not in caplog.text


def test_a_member_of_the_front_cannot_be_gone_on_with(settings: Make, stopped: Path) -> None:
    shutil.copy(stopped / "checkpoints/pareto/epoch_0001.pt", stopped / "checkpoints/last.pt")
    with pytest.raises(
        ValueError, match=r"last\.pt holds weights, but nothing to go on with: .* model\.weights=.*last\.pt"
    ):
        resume(settings, stopped)


def test_the_advice_names_files_that_help(settings: Make, stopped: Path) -> None:
    last = stopped / "checkpoints/last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    member = stopped / "checkpoints/pareto/epoch_0001.pt"
    message = (
        rf"last\.pt is truncated or corrupt.*: it does not end as such a file does\. .* Beside it there is {member},"
    )
    with pytest.raises(ValueError, match=message):
        resume(settings, stopped)
    with pytest.raises(ValueError, match=message):
        load_run(stopped)
    member.write_bytes(b"PK")
    with pytest.raises(
        ValueError, match="Delete it; the run has no other checkpoint, and must start from the beginning"
    ):
        load_run(stopped)


def test_weights_of_another_net_are_named_when_a_run_is_loaded(stopped: Path) -> None:
    with pytest.raises(ValueError, match=rf"the weights in {stopped} do not fit the net of its config.* and \d+ more"):
        load_run(stopped, overrides=["model.name=resnet18"])
    aim = ["objective.mode=aim", "model.name=resnet18", "evaluation.attribution.depth=final"]
    with pytest.raises(
        ValueError, match=r"do not fit the net .* Another model\.name or objective\.mode is another net"
    ):
        load_run(stopped, overrides=aim)


def test_a_run_folder_is_suggested(stopped: Path) -> None:
    with pytest.raises(ValueError, match=rf"no checkpoint at .*rum/checkpoints/last\.pt\. Did you mean {stopped}\?"):
        load_run(stopped.parent / "rum/checkpoints/last.pt")


def test_the_environment_holds_the_commit(stopped: Path, tmp_path: Path) -> None:
    """Of the checkout that runs, marked where it was changed; none for an installed package."""
    assert json.loads((stopped / ENVIRONMENT).read_text())["commit"] == commit()
    script = "from guidance.runs.commit import commit; print(commit())"

    def ask(folder: Path) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    root, package = tmp_path / "checkout", Path(__file__).parents[3] / "guidance"
    shutil.copytree(package, root / "guidance", ignore=shutil.ignore_patterns("__pycache__"))
    assert ask(root) == "None"
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "guidance"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    clean = ask(root)
    assert len(clean) == 40
    (root / "guidance/__init__.py").write_text("# changed\n__version__ = '0'\n")
    assert ask(root) == clean + "+"
    subprocess.run([*git, "checkout", "-q", "guidance"], check=True)
    assert ask(root) == clean
    write_text(root / "launch/train.py", "# changed")
    assert ask(root) == clean + "+"


def test_without_epochs_the_weights_that_it_starts_from_are_evaluated(settings: Make, tmp_path: Path) -> None:
    assert build_trainer(settings(trainer={"epochs": 1}), tmp_path / "first", CPU).fit()
    weights = {"name": "tiny", "weights": str(tmp_path / "first/checkpoints/last.pt")}
    config = settings(trainer={"epochs": 0}, model=weights, evaluation={"attribution": {"depth": "final"}})
    assert build_trainer(config, tmp_path / "run", CPU).fit()
    before, after = (checkpoint.load(tmp_path / name / "checkpoints/last.pt") for name in ("first", "run"))
    assert all(torch.equal(value, after["model"][name]) for name, value in before["model"].items())
    assert (after["epoch"], after["step"]) == (0, 0)
    assert after["metrics"]["f1"] == before["metrics"]["f1"]
    assert after["metrics"]["epg"] != before["metrics"]["epg"]
    assert [path.name for path in (tmp_path / "run/checkpoints/pareto").iterdir()] == ["epoch_0000.pt"]
    lines = rows(tmp_path / "run")
    assert [(row["epoch"], row["step"], row["val/f1"]) for row in lines] == [(0, 0, before["metrics"]["f1"])]
    assert build_trainer(config, tmp_path / "run", CPU, resume=True).fit()
    assert rows(tmp_path / "run") == lines
