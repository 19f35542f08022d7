"""The folder of a front holds exactly the front, whatever is offered and however it ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidance.runs.checkpoint import load, save
from guidance.runs.front_folder import ParetoFolder, read_candidates
from guidance.runs.pareto import non_dominated
from tests.support.checkpoints import METRICS, names, offer, state

PUBLISHED = {"a": (0.801, 0.5, 0.4), "b": (0.8005, 0.5, 0.4), "c": (0.79, 0.6, 0.4), "d": (0.79, 0.59, 0.39)}


def weights(folder: Path) -> dict[str, list[float]]:
    return {path.stem: load(path)["model"]["weight"].tolist() for path in folder.glob("*.pt")}


def test_folder_holds_exactly_the_front(tmp_path: Path) -> None:
    folder = ParetoFolder(tmp_path / "run" / "pareto", METRICS)
    kept = [name for epoch, (name, values) in enumerate(PUBLISHED.items()) if offer(folder, name, values, epoch)]
    assert kept == ["a", "c"]
    assert names(tmp_path / "run" / "pareto") == ["a.pt", "c.pt"]
    assert load(folder.path("a"))["metrics"] == {"f1": 0.801, "epg": 0.5, "iou": 0.4, "map": 0.1}
    assert offer(folder, "e", (0.9, 0.9, 0.3), 9)
    assert offer(folder, "f", (0.9, 0.9, 0.9), 9)
    assert names(tmp_path / "run" / "pareto") == ["f.pt"]


def test_state_is_made_only_for_what_is_kept(tmp_path: Path) -> None:
    folder = ParetoFolder(tmp_path, METRICS)
    offer(folder, "a", (0.5, 0.5, 0.5))
    assert not folder.offer("b", dict.fromkeys(METRICS, 0.1), lambda: pytest.fail("made a state for nothing"))


def test_folder_goes_on_where_it_was(tmp_path: Path) -> None:
    first = ParetoFolder(tmp_path, METRICS)
    for epoch, (name, values) in enumerate(PUBLISHED.items()):
        offer(first, name, values, epoch)
    again = ParetoFolder(tmp_path, METRICS)
    assert again.members == first.members
    assert not offer(again, "b", PUBLISHED["b"])
    # The epoch after the resumed one is offered a second time, under the same name.
    assert offer(again, "c", (0.79, 0.7, 0.5))
    assert weights(tmp_path) == {"a": pytest.approx(PUBLISHED["a"]), "c": pytest.approx((0.79, 0.7, 0.5))}
    assert not offer(again, "c", (0.1, 0.1, 0.1))
    assert names(tmp_path) == ["a.pt"]


def test_equal_candidates_on_disk_keep_the_earliest_epoch(tmp_path: Path) -> None:
    for name, epoch in (("z", 3), ("y", 7), ("x", 12)):
        save(tmp_path / f"{name}.pt", state(epoch=epoch, metrics=dict.fromkeys(METRICS, 0.5)))
    assert [saved.candidate.name for saved in read_candidates(tmp_path)] == ["z", "y", "x"]
    assert [member.name for member in ParetoFolder(tmp_path, METRICS).members] == ["z"]
    assert names(tmp_path) == ["z.pt"]


def test_full_disk_leaves_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = ParetoFolder(tmp_path, METRICS)
    offer(folder, "a", (0.5, 0.5, 0.5))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            offer(folder, "b", (0.9, 0.9, 0.9))
    assert names(tmp_path) == ["a.pt"]
    assert [member.name for member in folder.members] == ["a"]
    assert offer(folder, "b", (0.9, 0.9, 0.9))
    assert names(tmp_path) == ["b.pt"]


def test_random_fronts_equal_the_front_of_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((40, 3)).round(1)
    folder = ParetoFolder(tmp_path, METRICS)
    for i, row in enumerate(rows):
        offer(folder, f"epoch_{i:04d}", tuple(row.tolist()), i)
        if i % 7 == 0:
            folder = ParetoFolder(tmp_path, METRICS)
    assert names(tmp_path) == [f"epoch_{i:04d}.pt" for i in non_dominated(rows, 0.005)]
