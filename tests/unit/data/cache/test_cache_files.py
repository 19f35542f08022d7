"""Files of a cache that are outdated, damaged, unfinished, or cannot be written."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from guidance.data.cache import file as cache_file
from guidance.data.cache.images import build_cache, cache_path, open_cache, shared_cache
from guidance.data.reading.decode import read_image
from guidance.data.source import Record
from guidance.data.transforms.crops import crop_image
from tests.support.data.pictures import make_source, write_picture
from tests.support.processes import fork_server


def test_a_changed_image_makes_the_cache_outdated(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[], []])
    first = shared_cache(tmp_path, source, 12, progress=False)
    stamp = first.path.stat().st_mtime_ns
    assert shared_cache(tmp_path, source, 12, progress=False).path.stat().st_mtime_ns == stamp  # not built twice
    write_picture(tmp_path / "1.png", seed=77)
    os.utime(tmp_path / "1.png", ns=(stamp + 10**9, stamp + 10**9))
    assert open_cache(tmp_path, source, 12) is None
    fresh = shared_cache(tmp_path, source, 12, progress=False)
    assert torch.equal(fresh.read(1)[0], crop_image(read_image(tmp_path / "1.png"), 12, "none"))
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


def _slow_build(folder: Path, tell: Any) -> None:
    """Tells when it is half done, and waits."""
    decode = cache_file._decode

    def slow(record: Record, **options: Any) -> Any:
        if record.path.name == "3.png":
            tell.send("half")
            time.sleep(60)
        return decode(record, **options)

    cache_file._decode, cache_file.CHUNK = slow, 1
    build_cache(folder, make_source(folder / "images", [[]] * 5), 12)


def test_a_killed_build_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    told, tell = fork_server().Pipe(duplex=False)
    process = fork_server().Process(target=_slow_build, args=(tmp_path, tell))
    process.start()
    assert told.poll(120)
    source = make_source(tmp_path / "images", [[]] * 5)
    (unfinished,) = tmp_path.glob(".*.unfinished")
    long_ago = time.time() - 3600
    os.utime(unfinished, (long_ago, long_ago))
    assert open_cache(tmp_path, source, 12) is None
    cache_file.remove_leftovers(tmp_path)
    assert unfinished.exists()  # its process lives
    process.kill()
    process.join()
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
