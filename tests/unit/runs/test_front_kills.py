"""The folder of a front is right at any moment: after a kill, beside a training, with files that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.runs import front_folder
from guidance.runs.checkpoint import save
from guidance.runs.front_folder import ParetoFolder, read_candidates
from tests.support.checkpoints import METRICS, names, offer, run_script, state

KILLED_AT_RANDOM = """
        import os, random, signal, sys, time
        from pathlib import Path
        import torch
        from guidance.runs.checkpoint import load
        from guidance.runs.front_folder import ParetoFolder, read_candidates
        from guidance.runs.pareto import non_dominated

        folder, done = Path(sys.argv[1]) / "pareto", Path(sys.argv[1]) / "done"
        rng, metrics = random.Random(0), ("f1", "epg", "iou")
        offers = [[rng.random() * (0.5 + i / 240) for _ in metrics] for i in range(120)]
        done.write_text("")

        def train():
            front = ParetoFolder(folder, metrics)
            with open(done, "a", buffering=1) as log:
                for i in range(len(done.read_text().split()), len(offers)):
                    values = dict(zip(metrics, offers[i]))
                    state = {"config": {}, "classes": [], "epoch": i, "step": i, "model": {"w": torch.full((9000,), float(i))}}
                    front.offer(f"epoch_{i:04d}", values, lambda: state | {"metrics": None})
                    log.write(f"{i}\\n")

        kills = 0
        while True:
            child = os.fork()
            if child == 0:
                train()
                os._exit(0)
            if kills < 12:
                time.sleep(rng.random() * 0.06)
                os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)[1] == 0
            count = len(done.read_text().split())
            saved = read_candidates(folder)
            points = [[s.candidate.values[m] for m in metrics] for s in saved]
            front = [saved[i].epoch for i in non_dominated(points)]
            # The offer that was under way when the process died counts from the moment its file is in place.
            assert front in [non_dominated(offers[: count + extra]) for extra in (0, 1)], (count, front)
            for s in saved:
                assert load(s.path)["model"]["w"].tolist() == [float(s.epoch)] * 9000
            if ended:
                break
            kills += 1
        assert sorted(os.listdir(folder)) == [f"epoch_{i:04d}.pt" for i in non_dominated(offers)]
        print("kills", kills)
    """


class Killed(BaseException):
    """Stands for the end of the process at one instruction."""


@pytest.mark.parametrize("moment", ["save", "fsync", "replace", "unlink", "second unlink"])
def test_killed_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Offering c, which evicts a and b, dies at `moment`: a reader finds the old front or the new one, never less."""
    folder = ParetoFolder(tmp_path, METRICS)
    offer(folder, "a", (0.5, 0.4, 0.4), 1)
    offer(folder, "b", (0.4, 0.5, 0.4), 2)
    offer(folder, "x", (0.9, 0.1, 0.1), 3)
    left = {"second unlink": 1}.get(moment, 0)
    owner, name = (torch, "save") if moment == "save" else (os, moment.split()[-1])
    original = getattr(owner, name)

    def die(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            if moment == "save":
                arguments[1].write(b"half a file")
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        if name != "unlink":
            # A killed process does not clean up.
            patch.setattr(os, "unlink", lambda *_: None)
        with pytest.raises(Killed):
            offer(folder, "c", (0.6, 0.6, 0.6), 4)
    new = moment in ("unlink", "second unlink")
    found = {saved.candidate.name for saved in read_candidates(tmp_path)}
    assert found == ({"c", "x", "b"} | ({"a"} if moment == "unlink" else set()) if new else {"a", "b", "x"})
    assert ("c.pt.tmp" in names(tmp_path)) == (not new)
    again = ParetoFolder(tmp_path, METRICS)
    assert names(tmp_path) == (["c.pt", "x.pt"] if new else ["a.pt", "b.pt", "x.pt"])
    assert {member.name for member in again.members} == ({"c", "x"} if new else {"a", "b", "x"})


def test_killed_for_real(tmp_path: Path) -> None:
    """SIGKILL at random moments: what is read afterwards is the front of everything offered so far."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    word, kills = run_script(KILLED_AT_RANDOM, tmp_path / "script", str(tmp_path)).split()
    assert word == "kills"
    assert int(kills) >= 3


def test_reading_beside_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """b evicts a between the listing and the reading: the folder is read again, so the front is not missing b."""
    folder = ParetoFolder(tmp_path, METRICS)
    offer(folder, "a", (0.5, 0.5, 0.5))
    read, done = front_folder.read, []

    def slow(path: Path, *, verify: bool) -> dict[str, Any]:
        if not done:
            done.append(True)
            offer(folder, "b", (0.6, 0.6, 0.6))
        return read(path, verify=verify)

    monkeypatch.setattr(front_folder, "read", slow)
    assert [saved.candidate.name for saved in read_candidates(tmp_path)] == ["b"]


def test_unreadable_files_in_a_front_are_named(tmp_path: Path) -> None:
    offer(ParetoFolder(tmp_path, METRICS), "a", (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="a has no value for worst_group_accuracy"):
        ParetoFolder(tmp_path, ["worst_group_accuracy"])
    (tmp_path / "bad.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad.pt is truncated or corrupt"):
        ParetoFolder(tmp_path, METRICS)
    for metrics in (None, {}):
        save(tmp_path / "bad.pt", state(metrics=metrics))
        with pytest.raises(ValueError, match=r"bad.pt has no metrics: it was saved before the first evaluation"):
            read_candidates(tmp_path)
    os.unlink(tmp_path / "bad.pt")
    os.symlink(tmp_path / "gone", tmp_path / "link.pt")
    with pytest.raises(ValueError, match="link to a file that is gone"):
        read_candidates(tmp_path)
