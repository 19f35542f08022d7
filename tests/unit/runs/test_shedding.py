"""What a finished run sheds: two thirds of its last checkpoint, and the second copy of the same weights; nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.inference import load_run
from guidance.runs import checkpoint, shedding
from guidance.runs.shedding import disk_use, is_shed, shed
from tests.support.runs import CPU, assert_same

WEIGHTS = 4000  # bytes of weights, of which Adam holds twice as many


def write_run(folder: Path, *, front: int, same: bool = True, **changed: Any) -> dict[str, Any]:
    """After epoch 4, with a checkpoint of the epoch `front`."""
    weights = torch.arange(1000.0)
    shared = {"config": {"seed": 0}, "classes": ["a"], "metrics": {"f1": 0.5, "epg": float("nan")}}
    state = shared | {"model": {"w": weights}, "epoch": 4, "step": 12, "front": ["epoch_0004"]}
    state["trainer"] = {"epoch": 4, "position": 0, "step": 12, "best": {"f1": 0.5}, "rng": [1],
                        "optimizer": {"state": {0: {"exp_avg": weights + 1, "exp_avg_sq": weights + 2}}}}  # fmt: skip
    checkpoint.save(folder / "checkpoints/last.pt", state)
    own = {"model": {"w": weights if same else weights + 1}, "epoch": front, "step": 3 * front}
    checkpoint.save(folder / f"checkpoints/pareto/epoch_{front:04d}.pt", shared | own | changed)
    return state


def test_the_optimizer_goes_and_equal_weights_are_one_file(tmp_path: Path) -> None:
    state = write_run(tmp_path, front=4)
    last, twin = tmp_path / "checkpoints/last.pt", tmp_path / "checkpoints/pareto/epoch_0004.pt"
    before = checkpoint.load(twin)
    assert 4 * WEIGHTS < disk_use(tmp_path) < 5 * WEIGHTS + 4000
    shed(tmp_path)
    assert WEIGHTS < disk_use(tmp_path) < WEIGHTS + 3000
    assert last.samefile(twin)
    found = checkpoint.load(last)
    state["trainer"] = {"epoch": 4, "position": 0, "step": 12, "best": {"f1": 0.5}, "shed": True}
    assert_same({key: found[key] for key in state}, state)
    assert_same({key: checkpoint.load(twin)[key] for key in before}, before)
    when = last.stat().st_mtime_ns
    shed(tmp_path)
    assert last.stat().st_mtime_ns == when
    assert sorted(p.name for p in (tmp_path / "checkpoints").rglob("*.*")) == ["epoch_0004.pt", "last.pt"]


@pytest.mark.parametrize(
    "changed",
    [{"front": 3}, {"front": 4, "same": False}, {"front": 4, "metrics": {"f1": 0.4}}, {"front": 4, "step": 11}],
)
def test_other_weights_stay_apart(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_run(tmp_path, **changed)
    (twin,) = (tmp_path / "checkpoints/pareto").glob("*")
    before = twin.read_bytes()
    shed(tmp_path)
    assert is_shed(checkpoint.load(tmp_path / "checkpoints/last.pt"))
    assert twin.read_bytes() == before
    assert len(list((tmp_path / "checkpoints/pareto").iterdir())) == 1


def test_without_hard_links_there_are_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    write_run(tmp_path, front=4)
    monkeypatch.setattr(os, "link", refuse)
    shed(tmp_path)
    shed(tmp_path)
    assert is_shed(checkpoint.load(tmp_path / "checkpoints/last.pt"))
    assert not is_shed(checkpoint.load(tmp_path / "checkpoints/pareto/epoch_0004.pt"))
    assert 2 * WEIGHTS < disk_use(tmp_path) < 3 * WEIGHTS


@pytest.mark.parametrize("step", ["save", "link", "replace"])
def test_killed_anywhere_every_checkpoint_is_whole_and_the_next_call_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """`replace` is that of the twin, after the link is made."""
    write_run(tmp_path, front=4)
    replace = os.replace

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    def kill_at_the_twin(source: Path, target: Path) -> None:
        if Path(target).name == "epoch_0004.pt":
            kill()
        replace(source, target)

    places = {
        "save": (shedding, "save", kill),
        "link": (os, "link", kill),
        "replace": (os, "replace", kill_at_the_twin),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*places[step])
        with pytest.raises(KeyboardInterrupt):
            shed(tmp_path)
    for path in (tmp_path / "checkpoints").rglob("*.pt"):
        assert torch.equal(checkpoint.load(path)["model"]["w"], torch.arange(1000.0))
    shed(tmp_path)
    assert (tmp_path / "checkpoints/last.pt").samefile(tmp_path / "checkpoints/pareto/epoch_0004.pt")
    assert len(list((tmp_path / "checkpoints/pareto").iterdir())) == 1


def test_a_damaged_checkpoint_is_left_as_it_is(tmp_path: Path) -> None:
    write_run(tmp_path, front=4)
    last = tmp_path / "checkpoints/last.pt"
    content = bytearray(last.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 40] ^= 1
    last.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        shed(tmp_path)
    assert last.read_bytes() == content


def test_a_run_that_shed_is_evaluated_and_refused_to_go_on(tmp_path: Path, settings: Callable[..., Config]) -> None:
    config = settings(trainer={"epochs": 1}, schedule={"name": "constant"}, data={"annotated_fraction": 1.0})
    trainer = build_trainer(config, tmp_path, CPU)
    trainer.fit()
    trainer.log.close()
    before = load_run(tmp_path)
    del trainer  # and its lock
    shed(tmp_path)
    after = load_run(tmp_path)
    assert_same(after.model.state_dict(), before.model.state_dict())
    assert_same(after.metrics, before.metrics)
    (twin,) = (tmp_path / "checkpoints/pareto").iterdir()
    assert twin.samefile(tmp_path / "checkpoints/last.pt")
    longer = settings(trainer={"epochs": 2}, schedule={"name": "constant"}, data={"annotated_fraction": 1.0})
    with pytest.raises(ValueError, match=r"not the state of its optimizer \(`keep`\), so it cannot be trained further"):
        build_trainer(longer, tmp_path, CPU, resume=True)
