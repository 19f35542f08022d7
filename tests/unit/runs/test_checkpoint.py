"""Checkpoints survive kills, full disks and foreign files; the folder of a front is right at any moment."""

from __future__ import annotations

import argparse
import errno
import os
import random
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from guidance.runs import checkpoint
from guidance.runs.checkpoint import FORMAT, VERSION, ParetoFolder, check_config, load, read_candidates, save
from guidance.runs.pareto import non_dominated


def state(**changes: Any) -> dict[str, Any]:
    full = {"config": {"optimizer": {"lr": 0.1}}, "classes": ["a"], "model": {"weight": torch.arange(4.0)}}
    return full | {"metrics": None, "epoch": 1, "step": 10} | changes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_missing_file_and_folder(tmp_path: Path) -> None:
    save(tmp_path / "epoch_0001.pt", state())
    with pytest.raises(ValueError, match=r"no checkpoint at .*last.pt; the folder .* has: epoch_0001.pt"):
        load(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="no checkpoint at"):
        load(tmp_path / "nowhere" / "last.pt")
    with pytest.raises(ValueError, match=r"is a folder; give one checkpoint file"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "checkpoints/last.pt"
    path.parent.mkdir()
    save(path, state(model={"weight": torch.randn(5000)}))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        ValueError, match=r"last.pt is truncated or corrupt.*Delete it; the run has no other checkpoint"
    ):
        load(path)
    for other in (
        tmp_path / "last.pt",
        tmp_path / "checkpoints/notes.txt",
    ):  # nobody is told to delete what is no checkpoint
        other.write_bytes(path.read_bytes())
        with pytest.raises(ValueError, match=r"or no checkpoint at all: .*\. Give the folder of a run, or one of its"):
            load(other)


def test_an_archive_of_several_disks(tmp_path: Path) -> None:
    """What a flipped bit makes of the end of a file, and Python's zipfile does not take for an answer."""
    (tmp_path / "last.pt").write_bytes(
        b"x" * 100 + struct.pack("<4sLQL", b"PK\6\7", 5, 0, 5) + struct.pack("<4s4H2LH", b"PK\5\6", *[0] * 7)
    )
    with pytest.raises(ValueError, match=r"last\.pt is truncated or corrupt, .* it does not end as such a file does"):
        load(tmp_path / "last.pt")


def test_one_flipped_bit_in_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    weight = torch.arange(5000.0)
    save(path, state(model={"weight": weight}))
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 4321] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["weight"], weight)  # torch does not notice
    with pytest.raises(
        ValueError, match=r"last.pt is truncated or corrupt.*the checksum of its part .*data/0 is wrong"
    ):
        load(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"corrupt, or no checkpoint at all"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match=r"corrupt, or no checkpoint at all"):
        load(path)
    for content in ([1, 2], {}, {"state_dict": {}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"not a checkpoint of guidance: it lacks `format: guidance checkpoint`$"):
            load(path)
    torch.save({"epoch": 1, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(ValueError, match=r"is not a checkpoint of guidance: it holds Python objects"):
        load(path)
    torch.save(state() | {"format": FORMAT, "version": VERSION + 1}, path)
    with pytest.raises(ValueError, match=rf"has version {VERSION + 1} of the checkpoint format, but version {VERSION}"):
        load(path)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("new_format", [True, False])
def test_plain_weights_get_a_hint(tmp_path: Path, wrap: Any, new_format: bool) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(wrap(nn.Linear(2, 2).state_dict()), path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"plain weights: to start from them, set `model.weights: .*resnet18.pth`"):
        load(path)


def test_nothing_is_executed_while_loading(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save(state() | {"format": FORMAT, "version": VERSION, "x": Evil()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="Python objects"):
        load(tmp_path / "x.pt")
    assert names(tmp_path) == ["x.pt"]


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
    assert run_script(script, str(tmp_path / "last.pt")).split() == ["epoch", "1"]
    assert names(tmp_path) == ["last.pt"]


def run_script(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(checkpoint.__file__).parents[1], timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_error_of_ours_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "last.pt", state())
    assert names(tmp_path) == []


# The front on disk.

PUBLISHED = {"a": (0.801, 0.5, 0.4), "b": (0.8005, 0.5, 0.4), "c": (0.79, 0.6, 0.4), "d": (0.79, 0.59, 0.39)}
METRICS = ("f1", "epg", "iou")


def offer(folder: ParetoFolder, name: str, values: tuple[float, ...], epoch: int = 0) -> bool:
    metrics = dict(zip(METRICS, values, strict=True)) | {"map": 0.1}
    return folder.offer(name, metrics, lambda: state(epoch=epoch, model={"weight": torch.tensor(values)}))


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
    script = """
        import os, random, signal, sys, time
        from pathlib import Path
        import torch
        from guidance.runs.checkpoint import ParetoFolder, load, read_candidates
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
            if kills < 40:
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
    word, kills = run_script(script, str(tmp_path)).split()
    assert word == "kills"
    assert int(kills) >= 3


def test_reading_beside_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """b evicts a between the listing and the reading: the folder is read again, so the front is not missing b."""
    folder = ParetoFolder(tmp_path, METRICS)
    offer(folder, "a", (0.5, 0.5, 0.5))
    read, done = checkpoint._read, []

    def slow(path: Path, *, verify: bool) -> dict[str, Any]:
        if not done:
            done.append(True)
            offer(folder, "b", (0.6, 0.6, 0.6))
        return read(path, verify=verify)

    monkeypatch.setattr(checkpoint, "_read", slow)
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


def test_random_fronts_equal_the_front_of_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((40, 3)).round(1)
    folder = ParetoFolder(tmp_path, METRICS)
    for i, row in enumerate(rows):
        offer(folder, f"epoch_{i:04d}", tuple(row.tolist()), i)
        if i % 7 == 0:
            folder = ParetoFolder(tmp_path, METRICS)
    assert names(tmp_path) == [f"epoch_{i:04d}.pt" for i in non_dominated(rows, 0.005)]


# Configs.


def test_config_of_another_run_is_refused_with_both_values() -> None:
    saved = {"optimizer": {"lr": 0.1, "betas": (0.9, 0.999)}, "trainer": {"epochs": 5}, "old": True, "seed": 0}
    now = {"optimizer": {"lr": 0.2, "betas": [0.9, 0.999]}, "trainer": {"epochs": 9}, "new": None, "seed": 0}
    with pytest.raises(ValueError, match="another config") as error:
        check_config(saved, now)
    lines = str(error.value).splitlines()[1:-1]
    assert lines == [
        "  new: (absent) in the checkpoint, None now",
        "  old: True in the checkpoint, (absent) now",
        "  optimizer.lr: 0.1 in the checkpoint, 0.2 now",
        "  trainer.epochs: 5 in the checkpoint, 9 now",
    ]
    check_config(saved, now, ignore=("new", "old", "optimizer.lr", "trainer"))
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        check_config(saved, now, ignore=("new", "old", "optimizer.l", "train", "trainer.epochs"))
    check_config(saved, saved)
