"""Samples of cached images against those of decoded files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from guidance.assembly import build_source
from guidance.assembly.sets import as_cached, build_evaluation_dataset, build_training_dataset
from guidance.config import parse_config
from guidance.data import (
    EvaluationBatches,
    GuidanceDataset,
    Loader,
    RegionOptions,
    UnreadableError,
    eval_transform,
    train_transform,
)
from guidance.data.cache import file as cache_file
from guidance.data.cache.images import ImageCache, build_cache, open_cache
from guidance.data.reading.decode import read_image
from guidance.data.transforms.crops import SQUARES, crop_image
from guidance.data.transforms.views import to_frame
from tests.support.data.datasets import make_dataset
from tests.support.data.pictures import make_source, write_broken, write_picture

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
@pytest.mark.parametrize("crop", SQUARES)
def test_cached_samples_equal_decoded_ones(
    tmp_path: Path, augmentation: str, encoding: str, size: int, complement: bool, crop: str
) -> None:
    source = replace(make_source(tmp_path / "images", BOXES, complement=complement), crop=crop)
    images = build_cache(tmp_path / "cache", source, size)
    transform, cached_transform = (train_transform(size, augmentation, encoding, crop=c) for c in (crop, "none"))
    options: dict[str, Any] = {"training": True, "seed": 4, "dilation": 0.3, "load_segments": True}
    for classes in ("one", "all"):
        plain = make_dataset(source, transform, classes_per_image=classes, **options)
        cached = make_dataset(source, cached_transform, classes_per_image=classes, read=images.read, **options)
        for epoch in range(3):
            for index in range(len(source.records)):
                assert same(plain[epoch, index], cached[epoch, index])


@pytest.mark.parametrize("crop", SQUARES)
def test_cached_samples_equal_decoded_ones_on_photographs(tmp_path: Path, voc_root: Path, crop: str) -> None:
    data = {"name": "voc", "root": str(voc_root), "image_size": 96, "augmentation": "randaugment", "crop": crop}
    plain, cached = (
        parse_config({"data": data | changed, "evaluation": {"crop": crop}})
        for changed in ({}, {"cache": str(tmp_path)})
    )
    train = build_source(plain, "train")
    build_cache(tmp_path, *as_cached(cached, train), threads=2)
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
    data = GuidanceDataset(
        source, transform, training=True, regions=RegionOptions(load_segments=True), read=images.read
    )
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
        assert torch.equal(pixels, crop_image(read_image(source.records[index].path), 12, "none"))
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
    data = GuidanceDataset(
        source, eval_transform(64), training=False, regions=RegionOptions(load_segments=True), read=images.read
    )
    for context in ("fork", "spawn"):
        loader = Loader(data, EvaluationBatches(len(data), 2), num_workers=1)
        loader.multiprocessing_context = context
        joined = torch.cat([batch.to("cpu").images for batch in loader])
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
