"""Checkpoints keep values and types, and survive full disks."""

from __future__ import annotations

import argparse
import errno
import os
import random
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from guidance.runs.checkpoint import FORMAT, VERSION, load, save
from tests.support.checkpoints import names, run_script, state


def test_round_trip_keeps_values_and_types(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    trainer = {
        "optimizer": optimizer.state_dict(),
        "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict(),
        "rng": [torch.get_rng_state(), random.getstate(), None, b"x", True],
        "best": -0.1,
    }
    path = tmp_path / "new" / "folder" / "last.pt"
    save(path, state(model=model.state_dict(), metrics={"f1": float("nan")}, trainer=trainer))
    loaded = load(path)
    assert loaded["format"] == FORMAT
    assert loaded["version"] == VERSION
    assert (loaded["epoch"], loaded["step"], loaded["config"]) == (1, 10, {"optimizer": {"lr": 0.1}})
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["trainer"]["optimizer"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded["model"][name], tensor)
    random.setstate(loaded["trainer"]["rng"][1])
    assert loaded["trainer"]["rng"][2:] == [None, b"x", True]
    assert names(path.parent) == ["last.pt"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(0.5), "numpy.float64"),
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "Path"),
        (Counter("a"), "Counter"),
        ({1, 2}, "set"),
        (argparse.Namespace(), "Namespace"),
        (torch.float32, "torch.dtype"),
        (len, "builtin_function"),
    ],
)
def test_other_types_are_refused_by_their_place(tmp_path: Path, value: Any, kind: str) -> None:
    nested = {"groups": [{"lr": 0.1}, {"lr": (0.1, value)}]}
    with pytest.raises(ValueError, match=r"state\['trainer'\]\['groups'\]\[1\]\['lr'\]\[1\] is a .*" + kind):
        save(tmp_path / "x.pt", state(trainer=nested))
    assert names(tmp_path) == []


def test_other_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"state\['trainer'\] has the key \(1, 2\) of type tuple"):
        save(tmp_path / "x.pt", state(trainer={(1, 2): 0}))
    save(tmp_path / "x.pt", state(trainer=OrderedDict({0: nn.Parameter(torch.ones(1))})))
    assert load(tmp_path / "x.pt")["trainer"][0].item() == 1


@pytest.mark.parametrize("key", ["config", "classes", "model", "metrics", "epoch", "step"])
def test_incomplete_state_is_not_written(tmp_path: Path, key: str) -> None:
    content = state()
    del content[key]
    with pytest.raises(ValueError, match=f"key '{key}' is missing"):
        save(tmp_path / "x.pt", content)
    with pytest.raises(ValueError, match=f"key '{key}' holds a bytes"):
        save(tmp_path / "x.pt", content | {key: b""})
    assert names(tmp_path) == []
    torch.save(content | {"format": FORMAT, "version": VERSION}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=f"x.pt is not a complete checkpoint: the key '{key}' is missing"):
        load(tmp_path / "x.pt")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "last.pt"
    save(path, state(epoch=1))
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(
            OSError, match=r"cannot write .*last.pt \(No space left.*previous checkpoint is untouched"
        ) as e:
            save(path, state(epoch=2))
        assert e.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match=r"No file is left behind"):
            save(tmp_path / "other.pt", state(epoch=2))
    assert names(tmp_path) == ["last.pt"]
    assert load(path)["epoch"] == 1
    save(path, state(epoch=2))
    assert load(path)["epoch"] == 2


def test_write_that_fails_half_way(tmp_path: Path) -> None:
    """A real limit of the operating system, in a process of its own: torch wraps the error in a RuntimeError."""
    resource = pytest.importorskip("resource")
    script = """
        import resource, sys, torch
        from guidance.runs.checkpoint import load, save
        state = {"config": {}, "classes": [], "metrics": None, "epoch": 1, "step": 1}
        save(sys.argv[1], state | {"model": {"w": torch.zeros(10)}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            save(sys.argv[1], state | {"epoch": 2, "model": {f"w{i}": torch.randn(20_000) for i in range(5)}})
        except OSError as error:
            assert "previous checkpoint is untouched" in str(error), error
            print("epoch", load(sys.argv[1])["epoch"])
    """
    assert resource.RLIMIT_FSIZE is not None
    assert run_script(script, tmp_path / "script", str(tmp_path / "run/last.pt")).split() == ["epoch", "1"]
    assert names(tmp_path / "run") == ["last.pt"]


def test_an_error_of_ours_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "last.pt", state())
    assert names(tmp_path) == []
