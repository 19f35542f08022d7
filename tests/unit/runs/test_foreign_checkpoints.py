"""What is missing, broken or no checkpoint is told from each other, and nothing of it is run."""

from __future__ import annotations

import argparse
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidance.runs.checkpoint import FORMAT, VERSION, load, save
from tests.support.checkpoints import names, state


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
