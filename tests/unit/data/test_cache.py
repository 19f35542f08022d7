"""The decoded cache: equal samples, never a half file, rebuilt where it must be."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from guidance import distributed
from guidance.assembly import build_source, build_trainer
from guidance.assembly.sets import build_evaluation_dataset, build_training_dataset
from guidance.assembly.training import resumable_state
from guidance.config import parse_config
from guidance.data import (
    EvaluationBatches,
    GuidanceDataset,
    ImageCache,
    Source,
    UnreadableError,
    build_cache,
    build_loader,
    cache_path,
    eval_transform,
    open_cache,
    read,
    shared_cache,
    train_transform,
)
from guidance.data.cache import file as cache_file
from guidance.data.reading.decode import read_image
from guidance.data.transforms import resize_image, to_frame
from tests.support.pictures import make_source, write_broken, write_picture
from tests.support.processes import run_processes

ROOT = Path(__file__).parents[3]
BOXES = [
    [(0, (1.5, 2.25, 11.0, 17.0)), (1, (20.0, 0.0, 30.0, 20.0)), (0, (3.0, 3.0, 28.5, 9.0))],
    [(2, (7.0, 5.0, 7.3, 5.4))],  # meets no pixel centre
    [],
    [(1, (0.0, 0.0, 30.0, 20.0)), (3, (4.0, 4.0, 12.0, 12.0))],
]


def same(one: Any, other: Any) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("augmentation", ["none", "flip"])
@pytest.mark.parametrize("encoding", ["normalized", "inverse"])
@pytest.mark.parametrize("size", [13, 32])
@pytest.mark.parametrize("complement", [False, True])
def test_cached_samples_equal_decoded_ones(
    tmp_path: Path, augmentation: str, encoding: str, size: int, complement: bool
) -> None:
    source = make_source(tmp_path / "images", BOXES, complement=complement)
    images = build_cache(tmp_path / "cache", source, size)
    transform = train_transform(size, augmentation, encoding)
    options: dict[str, Any] = {"training": True, "seed": 4, "dilation": 0.3, "load_segments": True}
    for classes in ("one", "all"):
        plain = GuidanceDataset(source, transform, classes_per_image=classes, **options)
        cached = GuidanceDataset(source, transform, classes_per_image=classes, read=images.read, **options)
        for epoch in range(3):
            for index in range(len(source.records)):
                assert same(plain[epoch, index], cached[epoch, index])


def test_cached_samples_equal_decoded_ones_on_photographs(tmp_path: Path, voc_root: Path) -> None:
    config = {"data": {"name": "voc", "root": str(voc_root), "image_size": 96, "augmentation": "flip"}}
    plain = parse_config(config)
    cached = parse_config({"data": config["data"] | {"cache": str(tmp_path)}})
    train = build_source(plain, "train")
    for size in (96,):
        build_cache(tmp_path, train, size, threads=2)
    (one, _), (other, _) = build_training_dataset(plain, train), build_training_dataset(cached, train)
    assert isinstance(getattr(other.read, "__self__", None), ImageCache)
    for index in range(0, len(train.records), 7):
        assert same(one[1, index], other[1, index])
    one, other = build_evaluation_dataset(plain, train), build_evaluation_dataset(cached, train)
    assert isinstance(getattr(other.read, "__self__", None), ImageCache)
    for index in range(0, len(train.records), 7):
        assert same(one[0, index], other[0, index])


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40))
def test_to_frame_moves_annotation_like_the_transform(height: int, width: int, size: int) -> None:
    boxes = torch.tensor([[0.0, 0.0, width, height], [0.3 * width, 0.1 * height, 0.9 * width, 0.5 * height]])
    view = {
        "image": tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        "segments": tv_tensors.Mask(torch.rand(2, height, width) > 0.5),
    }
    expected, moved = eval_transform(size)(view), to_frame(view, size, size)
    assert torch.equal(expected["boxes"], moved["boxes"])
    assert moved["boxes"].canvas_size == (size, size)
    assert torch.equal(expected["segments"], moved["segments"])


def test_a_cache_of_another_size_gives_crops(tmp_path: Path) -> None:
    source = make_source(tmp_path / "images", BOXES)
    images = build_cache(tmp_path, source, 24)
    transform = train_transform(16, "crop_flip", scale=(0.3, 0.6))
    data = GuidanceDataset(source, transform, training=True, load_segments=True, read=images.read)
    sample = data[0, 3]
    assert (sample.image.shape, sample.masks.shape) == ((3, 16, 16), (2, 16, 16))
    assert sample.segments is not None
    assert sample.masks[0].all()  # a full-image box stays full


def test_pixels_sizes_and_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[], []])
    write_picture(tmp_path / "1.png", height=7, width=50, seed=9)
    images = build_cache(tmp_path, source, 12, threads=3)
    assert len(images) == 2
    for index, size in ((0, (20, 30)), (1, (7, 50))):
        pixels, found = images.read(index)
        assert found == size
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, resize_image(read_image(source.records[index].path), 12))
    assert images.path.stat().st_size == 4096 + 2 * (3 * 12 * 12 + 24) == cache_file.cache_bytes(source, 12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png", images.path.name]


def test_what_happens_to_a_sample_does_not_reach_the_file(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[]])
    images = build_cache(tmp_path, source, 12)
    before = images.path.read_bytes()
    images.path.chmod(0o444)
    opened = open_cache(tmp_path, source, 12)
    assert opened is not None
    opened.read(0)[0].zero_()
    assert images.path.read_bytes() == before
    assert images.read(0)[0].any()


def test_workers_share_the_file_and_do_not_copy_it(tmp_path: Path) -> None:
    source = make_source(tmp_path / "images", BOXES)
    images = build_cache(tmp_path, source, 64)
    assert len(pickle.dumps(images)) < 10_000 < images.path.stat().st_size
    data = GuidanceDataset(source, eval_transform(64), training=False, load_segments=True, read=images.read)
    for context in ("fork", "spawn"):
        loader = build_loader(data, EvaluationBatches(len(data), 2), num_workers=1)
        loader.multiprocessing_context = context
        joined = torch.cat([batch.images for batch in read(loader)])
        assert torch.equal(joined, torch.stack([data[0, i].image for i in range(len(data))]))


def test_unreadable_images(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[], [], []])
    write_broken(tmp_path / "1.png")
    (tmp_path / "2.png").unlink()
    with pytest.raises(UnreadableError, match=r"1\.png cannot be read"):
        build_cache(tmp_path, source, 12)
    assert not list(tmp_path.glob("*.images"))
    assert not list(tmp_path.glob(".*"))
    images = build_cache(tmp_path, source, 12, on_error="skip")
    with pytest.raises(UnreadableError, match=r"2\.png does not exist"):
        images.read(2)
    data = GuidanceDataset(source, eval_transform(12), training=True, on_error="skip", read=images.read)
    assert (data[0, 1].index, data[0, 1].skipped) == (0, 2)
    left_out = GuidanceDataset(source, eval_transform(12), training=False, on_error="skip", read=images.read)
    assert [left_out[0, i].kept for i in range(3)] == [True, False, False]
    with pytest.raises(UnreadableError):
        GuidanceDataset(source, eval_transform(12), training=False, read=images.read)[0, 1]


def test_a_changed_image_makes_the_cache_outdated(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[], []])
    first = shared_cache(tmp_path, source, 12, progress=False)
    stamp = first.path.stat().st_mtime_ns
    assert shared_cache(tmp_path, source, 12, progress=False).path.stat().st_mtime_ns == stamp  # not built twice
    write_picture(tmp_path / "1.png", seed=77)
    os.utime(tmp_path / "1.png", ns=(stamp + 10**9, stamp + 10**9))
    assert open_cache(tmp_path, source, 12) is None
    fresh = shared_cache(tmp_path, source, 12, progress=False)
    assert torch.equal(fresh.read(1)[0], resize_image(read_image(tmp_path / "1.png"), 12))
    assert not torch.equal(fresh.read(1)[0], first.read(1)[0])  # a process that has the old file open keeps it
    assert list(tmp_path.glob("*.images")) == [fresh.path]  # the outdated one is deleted
    (tmp_path / "1.png").unlink()
    assert open_cache(tmp_path, source, 12) is None


def test_data_sets_with_the_same_names_do_not_share_a_cache(tmp_path: Path) -> None:
    one, two = (make_source(tmp_path / name, [[], []]) for name in "ab")
    write_picture(tmp_path / "b" / "0.png", height=9, seed=5)
    build_cache(tmp_path, one, 12)
    build_cache(tmp_path, two, 12)
    first, second = open_cache(tmp_path, one, 12), open_cache(tmp_path, two, 12)
    assert first is not None
    assert second is not None
    assert first.path != second.path
    assert not torch.equal(first.read(0)[0], second.read(0)[0])


def test_other_settings_have_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(tmp_path, [[], []])
    built = build_cache(tmp_path, source, 12).path
    shorter = source.__class__(**{**vars(source), "records": source.records[:1]})
    turned = source.__class__(**{**vars(source), "records": source.records[::-1]})
    paths = {
        built,
        cache_path(tmp_path, source, 13),
        cache_path(tmp_path, shorter, 12),
        cache_path(tmp_path, turned, 12),
    }
    assert len(paths) == 4
    assert open_cache(tmp_path, source, 13) is None
    monkeypatch.setattr(cache_file, "FORMAT", cache_file.FORMAT + 1)
    assert open_cache(tmp_path, source, 12) is None
    monkeypatch.undo()
    # Another release may decode or resize otherwise.
    monkeypatch.setattr(torchvision, "__version__", "0.0")
    assert open_cache(tmp_path, source, 12) is None


def test_a_moved_data_set_keeps_its_cache(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    source = make_source(tmp_path / "old", [[], []])
    build_cache(tmp_path, source, 12)
    (tmp_path / "old").rename(tmp_path / "new")
    records = tuple(r._replace(path=tmp_path / "new" / r.path.name) for r in source.records)
    assert open_cache(tmp_path, source.__class__(**{**vars(source), "records": records}), 12) is not None


@pytest.mark.parametrize("damage", ["short", "long", "empty", "header", "table", "format"])
def test_damaged_files_are_built_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(tmp_path, [[], []])
    path = build_cache(tmp_path, source, 12).path
    content = path.read_bytes()
    path.write_bytes(
        {
            "short": content[:-1],
            "long": content + b"x",
            "empty": b"",
            "header": b"x" + content[1:],
            "table": content[:-3] + b"xyz",
            "format": content.replace(b'"format": 2', b'"format": 1'),
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert open_cache(tmp_path, source, 12) is None
    assert "is not used" in caplog.text
    fresh = shared_cache(tmp_path, source, 12, progress=False)
    assert fresh.path.read_bytes() == content


def test_damaged_pixels_are_found(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[], [], []])
    images = build_cache(tmp_path, source, 12)
    assert images.damaged_images() == []
    with open(images.path, "r+b") as file:
        file.seek(4096 + 2 * 3 * 12 * 12 + 5)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert images.damaged_images() == [2]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from guidance.data import build_cache, cache_file
from tests.support.pictures import make_source

decode = cache_file._decode
def slow(record, **options):
    if record.path.name == "3.png":
        print("half", flush=True)
        time.sleep(60)
    return decode(record, **options)
cache_file._decode, cache_file.CHUNK = slow, 1
folder = Path(sys.argv[1])
build_cache(folder, make_source(folder / "images", [[]] * 5), 12)
"""


def test_a_killed_build_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    source = make_source(tmp_path / "images", [[]] * 5)
    (unfinished,) = tmp_path.glob(".*.unfinished")
    long_ago = time.time() - 3600
    os.utime(unfinished, (long_ago, long_ago))
    assert open_cache(tmp_path, source, 12) is None
    cache_file.remove_leftovers(tmp_path)
    assert unfinished.exists()  # its process lives
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert unfinished.exists()
    assert open_cache(tmp_path, source, 12) is None
    images = shared_cache(tmp_path, source, 12, progress=False)
    assert images.damaged_images() == []
    assert len(images) == 5
    assert not unfinished.exists()


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(tmp_path / "images", [[], []])

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"No space left on device.*it takes .* GB\. Make room"):
        build_cache(tmp_path / "cache", source, 12)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[]])
    with pytest.raises(ValueError, match=r"cannot be written .*set data\.cache to"):
        build_cache(tmp_path / "0.png" / "cache", source, 12)


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
        "model": {"name": "resnet18"},
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
