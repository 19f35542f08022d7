"""What may happen to a run folder between a run and its --resume: changed settings, other processes, lost and foreign files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.inference import load_run
from guidance.runs import checkpoint
from guidance.runs.folder import ENVIRONMENT, RunLock, commit
from guidance.runs.locks import lock_folder
from tests.support.layouts import write_text
from tests.support.runs import assert_same, rows, snapshot

CPU = torch.device("cpu")
Make = Callable[..., Config]


@pytest.fixture
def stopped(settings: Make, tmp_path: Path) -> Path:
    """A run of one epoch, to be gone on with for two more."""
    run = tmp_path / "run"
    build_trainer(settings(trainer={"epochs": 1}, schedule={"name": "constant"}), run, CPU).fit()
    return run


def resume(settings: Make, run: Path, **sections: dict[str, Any]) -> None:
    config = settings(**({"trainer": {"epochs": 2}, "schedule": {"name": "constant"}} | sections))
    build_trainer(config, run, CPU, resume=True).fit()


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


# --- one process at a time --------------------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from pathlib import Path
    from guidance.runs.locks import lock_folder
    lock = lock_folder(Path(sys.argv[1]))
    print("held", flush=True)
    {then}
"""


def hold(folder: Path, then: str = "time.sleep(600)") -> subprocess.Popen[str]:
    """A process that locks the folder."""
    script = textwrap.dedent(HOLD.format(then=then))
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_belongs_to_one_process_until_it_ends(settings: Make, stopped: Path) -> None:
    before = (stopped / "metrics.jsonl").read_bytes()
    process = hold(stopped)
    try:
        with pytest.raises(
            ValueError, match=rf"in use by process {process.pid} on .*, since .*; wait until it has ended"
        ):
            resume(settings, stopped)
        assert (stopped / "metrics.jsonl").read_bytes() == before
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    resume(settings, stopped)
    assert (stopped / "metrics.jsonl").read_bytes().startswith(before)


def test_a_run_that_began_meanwhile_is_left_alone(settings: Make, tmp_path: Path) -> None:
    """Two processes find the folder empty; the one that was slower to prepare must not write over the other's run."""
    folder = tmp_path / "run"
    slower = RunLock(folder)
    slower.claim(resume=True)
    assert build_trainer(settings(), folder, CPU).fit()
    before = snapshot(folder)
    with pytest.raises(
        ValueError, match=r"another process has started a run in .*run while this one prepared its own; go on"
    ):
        slower.prepare("other: config")
    assert_same(snapshot(folder), before)


def test_children_of_a_killed_process_do_not_hold_its_lock(tmp_path: Path) -> None:
    """Loader workers live on for seconds after a kill; a lock that they inherit would live as long."""
    process = hold(tmp_path, "import os; child = os.fork(); child and print(child, flush=True); time.sleep(600)")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        lock = lock_folder(tmp_path)
        assert lock is not None
        lock.close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    assert lock_folder(tmp_path) is None
    assert "cannot be locked" in caplog.text
    assert "only one run writes there" in caplog.text


# --- what is gone, or is something else -------------------------------------------------------------------------------


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


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a checkpoint without the checks of `save`."""
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def pop(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def edit(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return edit


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], object]:
    def edit(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return edit


COMPLETE, STATE, FIT = (
    "is not a complete checkpoint",
    "cannot be resumed: of its training state, ",
    "do not fit the net",
)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (pop("classes"), f"{COMPLETE}: the key 'classes' is missing"),
        (put(["a", 1], "classes"), f"{COMPLETE}: the key 'classes' holds something else than names"),
        (put({"f1": "good"}, "metrics"), f"{COMPLETE}: the key 'metrics' holds something else than numbers"),
        (put({}, "model"), f"{COMPLETE}: the key 'model' holds something else than tensors"),
        (put(1.5, "model", "net.fc.bias"), f"{COMPLETE}: the key 'model' holds something else than tensors"),
        (put(0.5, "front"), f"{COMPLETE}: the key 'front' holds something else than names"),
        (put(-1, "step"), f"{COMPLETE}: its epoch or step is below 0"),
        (pop("model", "net.fc.bias"), rf"{FIT}.* Keys missing: net\.fc\.bias"),
        (put(torch.zeros(1), "model", "net.new"), rf"{FIT}.* Keys unexpected: net\.new"),
        (
            put(torch.zeros(4), "model", "net.fc.bias"),
            rf"{FIT}.*of another shape: net\.fc\.bias \(4,\) instead of \(3,\)",
        ),
        (put(torch.zeros(3).long(), "model", "net.fc.bias"), rf"{FIT}.*of another type: net\.fc\.bias torch\.int64"),
        (
            put(torch.tensor([0, torch.nan, 0]), "model", "net.fc.bias"),
            rf"{FIT}.*with values that are not finite: net\.fc\.bias",
        ),
        (put({"data": {}}, "config"), "is not a valid config"),
        (pop("trainer", "rng"), f"{STATE}rng is missing"),
        (pop("trainer", "optimizer"), f"{STATE}optimizer is missing, damaged, or does not fit this run"),
        (pop("trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put(torch.zeros(7), "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put([0.0], "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put(torch.tensor(0.0), "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (pop("trainer", "optimizer", "param_groups", 0, "betas"), f"{STATE}optimizer"),
        (put("x", "trainer", "optimizer", "param_groups", 0, "lr"), f"{STATE}optimizer"),
        (pop("trainer", "schedule", "lr_lambdas"), f"{STATE}schedule"),
        (put(None, "trainer", "schedule", "last_epoch"), f"{STATE}schedule"),
        (put("x", "trainer", "position"), f"{STATE}epoch, position and step"),
        (put(99, "trainer", "position"), f"{STATE}epoch, position and step"),
        (put({"f1": "x"}, "trainer", "best"), f"{STATE}best and metrics"),
        (put([{"sums": {"x": 1}, "counts": {"x": 1}}], "trainer", "window"), f"{STATE}window"),
        (put(torch.zeros(3), "trainer", "rng", 0, "torch"), f"{STATE}rng"),
        (put([], "trainer", "tally"), f"{STATE}tally"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_that_does_not_fit_is_named(
    settings: Make, stopped: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    """By what is wrong with it, in words of ours: no traceback, and no sentence of torch."""
    change(stopped / "checkpoints/last.pt", edit)
    with pytest.raises(ValueError, match=rf"last\.pt.*{message}") as raised:
        resume(settings, stopped)
    assert "state_dict" not in str(raised.value)
    assert len(str(raised.value)) < 500


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
    script = "from guidance.runs.folder import commit; print(commit())"

    def ask(folder: Path) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder)}
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
