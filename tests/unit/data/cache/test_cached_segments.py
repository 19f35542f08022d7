"""Segmentations from a cache: those of decoded files, and nothing of a file that is outdated or damaged."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from guidance.assembly import build_source
from guidance.assembly.sets import as_cached, build_evaluation_dataset, build_training_dataset
from guidance.config import parse_config
from guidance.data import EvaluationBatches, GuidanceDataset, Loader, Record, Source, UnreadableError, eval_transform
from guidance.data.annotation import RegionOptions
from guidance.data.cache.images import build_cache
from guidance.data.cache.segments import SegmentCache, build_segments, open_segments, segments_path, shared_segments
from guidance.data.reading.decode import read_class_map_segments
from guidance.data.transforms.crops import SQUARES
from tests.support.data.pictures import make_source, read_halves
from tests.unit.data.cache.test_cached_samples import BOXES, same


def read_pictures(record: Record) -> Mapping[int, Tensor]:
    return read_class_map_segments(record)


def with_pictures(folder: Path) -> Source:
    """`make_source` with class maps in files: noise, so that a resize that differs in one cell shows; class 3 has none."""
    source, rng, records = make_source(folder / "images", BOXES), np.random.default_rng(3), []
    for i, record in enumerate(source.records):
        labels = rng.integers(0, 4, (20, 30), dtype=np.uint8)
        if i == 1:
            labels[:] = 0
            labels[0, 0] = 3  # of class 2, and gone when the image is a square of 13
        path = folder / f"{i}.png"
        Image.fromarray(labels).save(path)
        records.append(record._replace(segmentation=path))
    return replace(source, records=tuple(records), read_segments=read_pictures)


@pytest.mark.parametrize("region", ["box", "segment", "best"])
@pytest.mark.parametrize("size", [13, 32])
@pytest.mark.parametrize("crop", SQUARES)
def test_cached_segmentations_equal_decoded_ones(tmp_path: Path, region: str, size: int, crop: str) -> None:
    source = replace(with_pictures(tmp_path), crop=crop)
    images, segments = build_cache(tmp_path, source, size), build_segments(tmp_path, source, size, threads=2)
    plain, cached = (
        GuidanceDataset(
            source, eval_transform(size, crop=at), training=True, read=read,
            regions=RegionOptions(region=region, load_segments=True, dilation=0.3, cached=found),
        )
        for at, read, found in ((crop, None, None), ("none", images.read, segments.read))
    )  # fmt: skip
    for index in range(len(source.records)):
        assert same(plain[0, index], cached[0, index])
    assert any(bool(cached[0, i].segments.any()) for i in range(len(source.records)))


@pytest.mark.parametrize(("name", "split"), [("voc", "train"), ("coco", "val2017")])
def test_on_photographs(tmp_path: Path, request: pytest.FixtureRequest, name: str, split: str) -> None:
    """Class maps of VOC, outlines and runs of COCO; in training and in evaluation, with what a config says."""
    root = request.getfixturevalue(f"{name}_root")
    data = {"name": name, "root": str(root), "image_size": 96, "augmentation": "randaugment", "region": "best"}
    data |= {"year": "2017"} if name == "coco" else {}
    splits = {"train_split": split, "val_split": split}
    plain, cached = (parse_config({"data": data | splits | more}) for more in ({}, {"cache": str(tmp_path)}))
    source = build_source(plain, split)
    for build in (build_cache, build_segments):
        build(tmp_path, *as_cached(cached, source), threads=2)
    pairs = [
        (build_training_dataset(plain, source)[0], build_training_dataset(cached, source)[0]),
        (build_evaluation_dataset(plain, source), build_evaluation_dataset(cached, source)),
    ]
    segmented = [i for i, record in enumerate(source.records) if record.segmentation is not None]
    for one, other in pairs:
        assert isinstance(getattr(other.regions.cached, "__self__", None), SegmentCache)
        for index in segmented[:: max(1, len(segmented) // 12)]:
            assert same(one[1, index], other[1, index])


def test_no_file_is_decoded_any_more(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    segments = build_segments(tmp_path, source, 16)
    for record in source.records:
        assert record.segmentation is not None
        record.segmentation.unlink()
    found = segments.read(source.records[0], 20, 30)
    assert {k: (mask.dtype, mask.shape) for k, mask in found.items()} == dict.fromkeys((0, 1), (torch.bool, (16, 16)))
    tiny = build_segments(tmp_path / "again", replace(source, read_segments=read_halves), 16)
    assert [len(tiny.read(record, 20, 30)) for record in source.records] == [2, 1, 0, 1]


def test_size_of_the_file(tmp_path: Path) -> None:
    """A bit for each pixel, and 24 bytes or so."""
    source = make_source(tmp_path / "images", BOXES)
    segments = build_segments(tmp_path, source, 13)
    assert segments.path.stat().st_size == 4096 + 4 * (-(-13 * 13 // 8) + 16) + 4 * 8
    assert [p.name for p in tmp_path.glob("*.*")] == [segments.path.name]
    assert len(pickle.dumps(segments)) < 10_000


def test_faulty_ones_are_read_from_their_files(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    first, second = (source.records[i].segmentation for i in (0, 3))
    assert first is not None
    assert second is not None
    whole = first.read_bytes()
    first.write_bytes(whole[:40])
    Image.fromarray(np.ones((5, 5), np.uint8)).save(second)
    with pytest.raises(UnreadableError, match=r"0\.png cannot be read"):
        build_segments(tmp_path, source, 16)
    assert not list(tmp_path.glob("*.segments"))
    assert not list(tmp_path.glob(".*"))
    segments = build_segments(tmp_path, source, 16, on_error="skip")
    with pytest.raises(UnreadableError, match="both must have the same size"):
        segments.read(source.records[3], 20, 30)
    images = build_cache(tmp_path, source, 16)
    options: dict[str, Any] = {
        "training": False,
        "read": images.read,
        "regions": RegionOptions("best", cached=segments.read),
    }
    data = GuidanceDataset(source, eval_transform(16), on_error="skip", **options)
    assert [data[0, i].skipped for i in range(4)] == [1, 0, 0, 1]
    with pytest.raises(UnreadableError):
        GuidanceDataset(source, eval_transform(16), **options)[0, 0]
    first.write_bytes(whole)  # repaired while the cache is open
    assert set(segments.read(source.records[0], 20, 30)) == {0, 1}


def test_what_makes_it_another_one(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    built = shared_segments(tmp_path, source, 16, progress=False)
    stamp = built.path.stat().st_mtime_ns
    assert shared_segments(tmp_path, source, 16, progress=False).path.stat().st_mtime_ns == stamp
    classes = tuple(record._replace(classes=(0,)) for record in source.records)
    for other in (
        replace(source, crop="center"), replace(source, displayed=True), replace(source, read_segments=read_halves),
        replace(source, records=source.records[:2]), replace(source, records=classes),
    ):  # fmt: skip
        assert open_segments(tmp_path, other, 16) is None
    assert open_segments(tmp_path, source, 17) is None
    path = source.records[2].segmentation
    assert path is not None
    os.utime(path, ns=(stamp + 10**9, stamp + 10**9))
    assert open_segments(tmp_path, source, 16) is None
    fresh = shared_segments(tmp_path, source, 16, progress=False)
    assert list(tmp_path.glob("*.segments")) == [fresh.path]  # the outdated one is deleted


@pytest.mark.parametrize("damage", ["short", "long", "empty", "header", "table"])
def test_damaged_files_are_built_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    source = with_pictures(tmp_path)
    path = build_segments(tmp_path, source, 16).path
    content = path.read_bytes()
    path.write_bytes({
        "short": content[:-1], "long": content + b"x", "empty": b"", "header": b"x" + content[1:],
        "table": content[:-3] + b"xyz",
    }[damage])  # fmt: skip
    assert open_segments(tmp_path, source, 16) is None
    assert "is not used" in caplog.text
    assert shared_segments(tmp_path, source, 16, progress=False).path.read_bytes() == content


def test_damaged_bits_are_found(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    segments = build_segments(tmp_path, source, 16)
    assert segments.damaged_images() == []
    assert [len(segments.read(record, 20, 30)) for record in source.records] == [2, 1, 0, 1]
    with open(segments.path, "r+b") as file:
        file.seek(4096 + 3 * 32 + 5)  # the fourth segmentation is of the last image
        file.write(b"\xaa" if content_at(segments.path, 4096 + 3 * 32 + 5) != 0xAA else b"\xab")
    assert segments.damaged_images() == [3]


def content_at(path: Path, position: int) -> int:
    return path.read_bytes()[position]


def test_workers_read_the_same(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    images, segments = build_cache(tmp_path, source, 16), build_segments(tmp_path, source, 16)
    regions = RegionOptions("best", load_segments=True, cached=segments.read)
    data = GuidanceDataset(source, eval_transform(16), training=False, regions=regions, read=images.read)
    masks = torch.cat([data[0, i].masks for i in range(len(data))])
    for context in ("fork", "spawn"):
        loader = Loader(data, EvaluationBatches(len(data), 2), num_workers=1)
        loader.data_loader.multiprocessing_context = context
        assert torch.equal(torch.cat([batch.regions.mask for batch in loader]), masks)
    assert segments_path(tmp_path, source, 16) == segments.path
