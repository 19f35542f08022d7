"""Samples: regions, draws, random states."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.data import (
    GuidanceDataset,
    RegionOptions,
    Sample,
    Source,
    eval_transform,
    train_transform,
)
from tests.support.data.datasets import FULL, LEFT, RIGHT, columns, make_dataset
from tests.support.data.pictures import make_source


def dataset(source: Source, *, size: int = 30, training: bool = False, **options: Any) -> GuidanceDataset:
    return make_dataset(source, eval_transform(size), training=training, **options)


def same(a: Sample, b: Sample) -> bool:
    pairs: list[tuple[Any, Any]] = list(zip(a, b, strict=True))
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def test_a_sample_has_one_region_per_class(tmp_path: Path) -> None:
    sample = dataset(make_source(tmp_path, [[(2, LEFT), (0, RIGHT), (2, (8, 0, 15, 20))]]))[0, 0]
    assert sample.targets.tolist() == [1, 0, 1, 0]
    assert sample.classes.tolist() == [0, 2]
    assert [columns(mask) for mask in sample.masks] == [list(range(20, 30)), list(range(15))]
    assert (sample.group, sample.index, sample.skipped, sample.dropped) == (0, 0, 0, 0)
    assert sample.segments is None


def test_an_image_without_labels_has_no_region(tmp_path: Path) -> None:
    sample = dataset(make_source(tmp_path, [[]]), load_segments=True)[0, 0]
    assert not sample.targets.any()
    assert sample.masks.shape == (0, 30, 30)
    assert sample.segments is not None
    assert sample.segments.shape == (0, 30, 30)


def test_segments_match_their_regions_and_may_be_missing(tmp_path: Path) -> None:
    sample = dataset(make_source(tmp_path, [[(1, LEFT), (3, FULL), (0, FULL)]]), load_segments=True)[0, 0]
    assert sample.classes.tolist() == [0, 1, 3]
    assert sample.segments is not None
    assert [columns(segment) for segment in sample.segments] == [list(range(15)), list(range(15, 30)), []]


def test_segments_follow_the_draw_and_the_crop(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (0, 0, 2, 20)), (1, (28, 0, 30, 20)), (2, FULL)]])
    transform = train_transform(16, "crop_flip", scale=(0.2, 0.4))
    one, every = (
        GuidanceDataset(
            source, transform, training=True, regions=RegionOptions(classes_per_image=which, load_segments=True)
        )
        for which in ("one", "all")
    )
    for epoch in range(20):
        drawn, whole = one[epoch, 0], every[epoch, 0]
        assert drawn.segments is not None
        assert whole.segments is not None
        assert len(drawn.segments) == 1
        assert len(whole.segments) == len(whole.classes)
        row = whole.classes.tolist().index(int(drawn.classes))
        assert torch.equal(drawn.segments[0], whole.segments[row])
        assert torch.equal(drawn.masks[0], whole.masks[row])


def test_complement_inverts_the_masks(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(1, LEFT)], [(0, FULL), (2, RIGHT)]], complement=True)
    assert columns(dataset(source)[0, 0].masks[0]) == list(range(10, 30))
    covered = dataset(source)[0, 1]  # nothing lies outside the full image
    assert (covered.classes.tolist(), covered.dropped) == ([2], 1)


def test_dilation_grows_the_boxes_of_the_file(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(1, (10, 5, 20, 15))]])
    mask = dataset(source, dilation=0.5)[0, 0].masks[0]
    assert columns(mask) == list(range(5, 25))
    assert dataset(source)[0, 0].masks[0].sum() * 4 == mask.sum()


def test_only_annotated_images_have_regions(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)], [(1, RIGHT)], [(2, FULL)]])
    data = dataset(source, annotated=[1], load_segments=True)
    assert [len(data[0, i].classes) for i in range(3)] == [0, 1, 0]
    assert all(data[0, i].targets.sum() == 1 and data[0, i].dropped == 0 for i in range(3))
    assert [len(dataset(source, annotated=[])[0, i].classes) for i in range(3)] == [0, 0, 0]


def test_one_class_is_drawn_uniformly(tmp_path: Path) -> None:
    data = dataset(make_source(tmp_path, [[(0, LEFT), (1, RIGHT), (3, FULL)]]), size=4, classes_per_image="one")
    drawn = [data[epoch, 0] for epoch in range(300)]
    counts = Counter(int(sample.classes) for sample in drawn)
    assert sorted(counts) == [0, 1, 3]
    assert min(counts.values()) > 70
    assert all(sample.masks.shape[0] == 1 for sample in drawn)
    assert {int(s.classes): columns(s.masks[0]) for s in drawn} == {0: [0], 1: [3], 3: [0, 1, 2, 3]}


def test_the_draw_does_not_depend_on_the_augmentation(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, FULL), (1, FULL), (2, FULL)]])  # a crop never removes any of them
    draws = [
        [
            int(make_dataset(source, transform, training=True, classes_per_image="one")[epoch, 0].classes)
            for epoch in range(30)
        ]
        for transform in (eval_transform(8), train_transform(8, "flip"), train_transform(8, "crop_flip"))
    ]
    assert draws[0] == draws[1] == draws[2]


def test_a_class_that_a_crop_removes_is_never_drawn(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (0, 0, 2, 20)), (1, (28, 0, 30, 20)), (2, FULL)]])
    transform = train_transform(16, "crop_flip", scale=(0.2, 0.4))
    both = [
        [
            GuidanceDataset(source, transform, training=True, regions=RegionOptions(classes_per_image=which))[epoch, 0]
            for which in ("one", "all")
        ]
        for epoch in range(40)
    ]
    for one, every in both:
        assert one.dropped == every.dropped == 3 - len(every.classes)
        assert set(one.classes.tolist()) <= set(every.classes.tolist())
        assert one.masks.flatten(1).any(1).all()
        assert one.targets.tolist() == [1, 1, 1, 0]
    assert {every.dropped for _, every in both} >= {1, 2}


def test_samples_depend_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, FULL), (1, FULL)]] * 2)
    first, again, other = (
        GuidanceDataset(
            source,
            train_transform(16, "crop_flip"),
            training=True,
            regions=RegionOptions(classes_per_image="one"),
            seed=seed,
        )
        for seed in (1, 1, 2)
    )
    expected = first[3, 1]
    torch.rand(7)
    first[0, 0]
    assert same(expected, first[3, 1])
    assert same(expected, again[3, 1])
    for changed in (first[4, 1], other[3, 1]):
        assert not torch.equal(expected.image, changed.image)


def test_each_image_is_augmented_in_its_own_way(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]] * 2)
    data = GuidanceDataset(source, train_transform(16, "crop_flip"), training=True)
    assert any(not torch.equal(data[epoch, 0].masks, data[epoch, 1].masks) for epoch in range(5))


def test_the_global_random_state_is_untouched(tmp_path: Path) -> None:
    data = GuidanceDataset(make_source(tmp_path, [[(0, FULL)]]), train_transform(8, "crop_flip"), training=True)
    before = torch.get_rng_state()
    data[0, 0]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "'raise' or 'skip'; got 'ignore'"),
        ({"classes_per_image": "two"}, "'one' or 'all'; got 'two'"),
        ({"load_segments": True}, "has no segmentations"),
        ({"dilation": -1.0}, "at least 0"),
        ({"annotated": [0, 5]}, "annotated index 5"),
    ],
)
def test_wrong_options_are_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = dataclasses.replace(make_source(tmp_path, [[(0, LEFT)]]), read_segments=None)
    with pytest.raises(ValueError, match=message):
        dataset(source, **options)
