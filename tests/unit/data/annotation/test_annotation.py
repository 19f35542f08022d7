"""What masks are made of: boxes and segmentations, by regime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidance.data import (
    GuidanceDataset,
    Record,
    RegionOptions,
    eval_transform,
    train_transform,
)
from guidance.data.annotation import annotate, unannotated
from guidance.regions import BOX, SEGMENT
from tests.support.data.datasets import LEFT, RIGHT, columns, covered, sample, with_never
from tests.support.data.pictures import make_source


# What a mask is made of. The fixture segments even classes in the left half, odd ones in the right half, class 3 nowhere.
def test_each_regime_takes_its_masks(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, RIGHT), (3, LEFT)]])
    box, segment, best = (sample(source, region=region) for region in ("box", "segment", "best"))
    assert covered(box) == {0: [*range(20, 30)], 3: [*range(10)]}
    assert covered(segment) == {0: [*range(15)]}  # class 3 has no segmentation: unannotated
    assert covered(best) == {0: [*range(15)], 3: [*range(10)]}
    kinds = [found.kinds.tolist() for found in (box, segment, best) if found.kinds is not None]
    assert kinds == [[BOX, BOX], [SEGMENT], [SEGMENT, BOX]]
    assert [found.dropped for found in (box, segment, best)] == [0, 0, 0]
    assert all(found.targets.tolist() == [1, 0, 0, 1] for found in (box, segment, best))
    assert [found.segments for found in (box, segment, best)] == [None] * 3  # only metrics need them beside the masks


def test_a_class_with_a_segmentation_and_no_box_is_a_pair(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(1, LEFT)]])
    source = dataclasses.replace(source, records=(source.records[0]._replace(boxes=(), box_classes=()),))
    assert [len(sample(source, region=region).classes) for region in ("box", "segment", "best")] == [0, 1, 1]
    found = sample(source, region="best", load_segments=True)
    assert covered(found) == {1: [*range(15, 30)]}
    assert found.segments is not None
    assert torch.equal(found.segments, found.masks)


def test_an_empty_segmentation_is_none(tmp_path: Path) -> None:
    def empty(record: Record) -> Mapping[int, Tensor]:
        return {k: torch.zeros(20, 30, dtype=torch.bool) for k in record.classes}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=empty)
    assert covered(sample(source, region="best")) == {0: [*range(10)]}
    assert sample(source, region="segment").classes.tolist() == []


def test_a_segmentation_that_vanishes_gives_way_to_its_box(tmp_path: Path) -> None:
    """An object of one pixel, at a quarter of the size, lies between the cells; its box covers a pixel at any size."""

    def dot(record: Record) -> Mapping[int, Tensor]:
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[4, 4] = True
        return {0: mask}

    source = make_source(tmp_path, [[(0, (4, 4, 5, 5))]], read_segments=dot)
    for region, dropped in (("box", 0), ("segment", 1), ("best", 0)):
        found = GuidanceDataset(source, eval_transform(5), training=False, regions=RegionOptions(region=region))[0, 0]
        assert found.dropped == dropped
        if not dropped:
            assert found.kinds is not None
            assert (found.kinds.tolist(), int(found.masks.sum())) == ([BOX], 1)


def test_segmentations_of_classes_that_are_no_label_are_left_out(tmp_path: Path) -> None:
    def every(record: Record) -> Mapping[int, Tensor]:
        return dict.fromkeys(range(4), torch.ones(20, 30, dtype=torch.bool))

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=every)
    assert sample(source, region="segment").classes.tolist() == [0]


def test_dilation_grows_boxes_only(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (3, (10, 0, 20, 20))]]), [(3, (19, 0, 20, 20))])
    assert covered(sample(source, region="best", dilation=0.5)) == {0: [*range(15)], 3: [*range(5, 19), *range(20, 25)]}


def test_segmentations_move_with_the_image(tmp_path: Path) -> None:
    """A flip mirrors the mask, and a crop that misses the object drops the pair."""
    source = make_source(tmp_path, [[(0, LEFT)]])
    flips = GuidanceDataset(source, train_transform(30, "flip"), training=True, regions=RegionOptions(region="segment"))
    assert {tuple(columns(flips[epoch, 0].masks[0])) for epoch in range(20)} == {(*range(15),), (*range(15, 30),)}

    def corner(record: Record) -> Mapping[int, Tensor]:
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[0, 0] = True
        return {0: mask}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=corner)
    crops = GuidanceDataset(
        source, train_transform(30, "crop_flip", scale=(0.3, 0.4)), training=True, regions=RegionOptions(region="best")
    )
    found = [crops[epoch, 0] for epoch in range(20)]
    assert all(len(s.classes) + s.dropped == 1 for s in found)
    assert 0 < sum(s.dropped for s in found) < 20


def test_boxes_that_a_regime_does_not_use_do_no_harm(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (5, 5, 5, 9))]])
    assert covered(sample(source, region="segment")) == {0: [*range(15)]}
    with pytest.raises(ValueError, match="has no area"):
        sample(source, region="best")


def test_a_faulty_segmentation_leaves_the_boxes(tmp_path: Path) -> None:
    def wrong(record: Record) -> Mapping[int, Tensor]:
        return {0: torch.ones(7, 7, dtype=torch.bool)}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=wrong)
    with pytest.raises(ValueError, match=r"\(7, 7\)"):
        sample(source, region="best")
    found = sample(source, region="best", on_error="skip")
    assert (covered(found), found.skipped) == ({0: [*range(10)]}, 1)
    assert (len(sample(source, region="segment", on_error="skip").classes), sample(source).skipped) == (0, 0)


def test_complement_inverts_boxes_and_segmentations_alike(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT), (3, RIGHT)]], complement=True)
    assert covered(sample(source)) == {0: [*range(10, 30)], 3: [*range(20)]}
    assert covered(sample(source, region="segment")) == {0: [*range(15, 30)]}
    found = sample(source, load_segments=True)
    assert found.segments is not None
    assert columns(found.segments[0]) == [*range(15, 30)]
    assert not found.segments[1].any()  # no segmentation is not one of everything


def test_an_image_without_any_region_has_empty_tensors_of_the_right_shape(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    found = sample(source, annotated=[], load_segments=True)
    assert found.masks.shape == (0, 30, 30)
    assert found.segments is not None
    assert found.segments.shape == (0, 30, 30)
    assert found.kinds is not None
    assert found.kinds.shape == (0,)
    assert annotate(source, source.records[0], 20, 30, RegionOptions()).segments.shape == (0, 20, 30)
    assert unannotated(20, 30).segments.shape == (0, 20, 30)


def test_the_frame_of_the_file_is_what_boxes_and_segmentations_are_read_in(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, RIGHT), (1, LEFT)]])
    found = annotate(source, source.records[0], 20, 30, RegionOptions(region="best"))
    assert found.segments.shape == (2, 20, 30)
    assert found.segment_rows == [0, 1]
    assert found.box_rows == [0, 1]
    assert found.forbidden == [False, False]


def test_unknown_regimes_are_errors(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    with pytest.raises(ValueError, match="box, segment, best; got 'mask'"):
        sample(source, region="mask")
    with pytest.raises(ValueError, match="no segmentations"):
        sample(dataclasses.replace(source, read_segments=None), region="segment")
