"""Who builds a cache, and when a run uses it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance import distributed
from guidance.assembly import build_source, build_trainer
from guidance.assembly.sets import build_evaluation_dataset, build_training_dataset
from guidance.assembly.training import resumable_state
from guidance.config import parse_config
from guidance.data import (
    Source,
)
from guidance.data.cache import file as cache_file
from guidance.data.cache.images import build_cache, open_cache, shared_cache
from guidance.data.reading.decode import read_image
from tests.support.data.pictures import make_source, write_broken
from tests.support.processes import run_processes


def _build_and_read(folder: Path, good: Source, bad: Source) -> tuple[list[int], str]:
    images = shared_cache(folder, good, 12, progress=False)
    sums = [int(images.read(i)[0].sum()) for i in range(len(images))]
    try:
        shared_cache(folder, bad, 12, progress=False)
    except ValueError as error:
        return sums, str(error)
    return sums, ""


def test_processes_share_a_cache_and_its_errors(tmp_path: Path) -> None:
    good, bad = make_source(tmp_path / "good", [[], [], []]), make_source(tmp_path / "bad", [[], []])
    write_broken(bad.records[1].path)
    first, second = run_processes(2, tmp_path / "results", _build_and_read, tmp_path / "cache", good, bad)
    assert first == second
    assert "1.png cannot be read" in first[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_machine_with_a_disk_of_its_own_builds_its_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on its first process; the others there build none."""
    source = make_source(tmp_path / "set", [[], []])
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    monkeypatch.setattr(distributed, "is_local_main", lambda: False)
    with pytest.raises(ValueError, match="a process does not find it"):
        shared_cache(tmp_path / "cache", source, 12, progress=False)
    monkeypatch.setattr(distributed, "is_local_main", lambda: True)
    assert len(shared_cache(tmp_path / "cache", source, 12, progress=False)) == 2


@pytest.mark.parametrize(("asked", "used"), [(0, 1), (1, 1), (3, 3)])
def test_images_are_decoded_by_as_many_threads_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, used: int
) -> None:
    seen: set[int] = set()
    together = threading.Barrier(used, timeout=60)  # each waits for as many others as there shall be

    def slow(path: Path, *, displayed: bool) -> Tensor:
        seen.add(threading.get_ident())
        together.wait()
        return read_image(path, displayed=displayed)

    monkeypatch.setattr(cache_file, "read_image", slow)
    build_cache(tmp_path / "cache", make_source(tmp_path / "set", [[]] * 6), 8, threads=asked)
    assert len(seen) == used


def test_the_progress_bar_is_wiped_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    build_cache(tmp_path / "cache", make_source(tmp_path / "set", [[]]), 8, progress=True)
    shown = capsys.readouterr().err
    assert "caching train" in shown
    assert shown.endswith(" \r")


def demo(tmp_path: Path, **data: Any) -> dict[str, Any]:
    sizes = {"num_train": 12, "num_val": 9, "num_test": 9, "image_size": 32, "num_workers": 0}
    return {
        "data": {"name": "demo", "root": str(tmp_path / "demo"), **sizes, **data},
        "model": {"name": "resnet8"},
        "trainer": {"epochs": 1, "batch_size": 4, "device": "cpu"},
        "log": {"tensorboard": False},
    }


def test_training_builds_the_caches_and_a_dry_run_does_not(tmp_path: Path) -> None:
    config = parse_config(demo(tmp_path, cache=str(tmp_path / "cache")))
    build_trainer(config, tmp_path / "dry", torch.device("cpu"), dry_run=True)
    assert not (tmp_path / "cache").exists()
    trainer = build_trainer(config, tmp_path / "run", torch.device("cpu"))
    assert len(list((tmp_path / "cache").glob("*.images"))) == 2
    batch = next(iter(trainer.loader))
    plain = build_trainer(parse_config(demo(tmp_path)), tmp_path / "plain", torch.device("cpu"))
    assert torch.equal(batch.images, next(iter(plain.loader)).images)
    mask = next((tmp_path / "demo/masks/val").iterdir())
    whole = mask.read_bytes()
    mask.write_bytes(whole[:70])  # no cache holds it: it must be looked at all the same
    with pytest.raises(ValueError, match=rf"demo val: faulty segmentations \(1\)\n.*{mask.name}"):
        build_trainer(config, tmp_path / "faulty", torch.device("cpu"))
    with pytest.raises(ValueError, match="demo val: faulty segmentations"):
        build_trainer(config, tmp_path / "dry_faulty", torch.device("cpu"), dry_run=True)
    mask.write_bytes(whole)
    test = build_evaluation_dataset(config, build_source(config, "test"))
    assert test[0, 0].kept  # without a cache of its own it decodes
    assert len(list((tmp_path / "cache").glob("*.images"))) == 2


def test_a_run_may_be_resumed_with_a_cache_unless_it_crops(tmp_path: Path) -> None:
    cached = {"cache": str(tmp_path / "cache")}
    build_trainer(parse_config(demo(tmp_path)), tmp_path / "run", torch.device("cpu")).fit()
    assert resumable_state(tmp_path / "run", parse_config(demo(tmp_path, **cached))) is not None
    crop = {"augmentation": "crop_flip"}
    build_trainer(parse_config(demo(tmp_path, **crop)), tmp_path / "crop", torch.device("cpu")).fit()
    with pytest.raises(ValueError, match=r"data\.cache: None in the checkpoint"):
        resumable_state(tmp_path / "crop", parse_config(demo(tmp_path, **crop, **cached)))


def test_evaluation_reads_the_size_of_the_net(tmp_path: Path) -> None:
    data = {"cache": str(tmp_path / "cache"), "cache_size": 48, "augmentation": "crop_flip"}
    config = parse_config(demo(tmp_path, **data))
    build_trainer(config, tmp_path / "run", torch.device("cpu"))
    train, val = build_source(config, "train"), build_source(config, "val")
    assert open_cache(tmp_path / "cache", train, 48) is not None
    assert open_cache(tmp_path / "cache", val, 32) is not None
    assert build_training_dataset(config, train)[0].read(0)[0].shape == (3, 48, 48)


def test_a_cache_holds_the_crops_that_are_always_the_same(tmp_path: Path) -> None:
    """Of training and of evaluation, each its own; one that is drawn anew each time is cut from the files."""
    cached = {"cache": str(tmp_path / "cache"), "crop": "center"}
    for evaluation, files in (("center", 2), ("none", 3), ("shifted_center", 3)):
        config = parse_config(demo(tmp_path, **cached) | {"evaluation": {"crop": evaluation}})
        build_trainer(config, tmp_path / evaluation, torch.device("cpu"))
        assert len(list((tmp_path / "cache").glob("*.images"))) == files
        val = build_evaluation_dataset(config, build_source(config, "val"))
        decoded = build_evaluation_dataset(
            parse_config(demo(tmp_path) | {"evaluation": {"crop": evaluation}}), build_source(config, "val")
        )
        assert (val.read == val._decode) == (evaluation == "shifted_center")
        assert torch.equal(val[0, 0].image, decoded[0, 0].image)
        assert torch.equal(val[0, 0].masks, decoded[0, 0].masks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache_size": 48, "augmentation": "flip"}, "data: cache_size 48 differs from image_size 32"),
        ({"cache_size": 24, "augmentation": "crop_flip"}, "data: cache_size 24 is smaller than image_size 32"),
    ],
)
def test_impossible_settings_are_errors(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(demo(tmp_path, cache="cache", **settings))
    parse_config(demo(tmp_path, **settings))  # without a cache its size means nothing
