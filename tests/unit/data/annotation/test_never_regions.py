"""Places where evidence must not lie."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors

from guidance.data import (
    GuidanceDataset,
    Record,
    collate,
    train_transform,
)
from guidance.data.annotation import Annotation, only_never, resolve, unannotated
from guidance.regions import BOX, NEVER, SEGMENT
from guidance.types import Batch, Regions
from tests.support.data.datasets import (
    FULL,
    LEFT,
    RECORDS,
    RIGHT,
    THIRDS,
    columns,
    covered,
    sample,
    with_never,
)
from tests.support.data.pictures import make_source


def test_segmentations_end_where_evidence_must_not_lie(tmp_path: Path) -> None:
    """Else X-SegEPG could exceed EPG, whose mask ends there too."""
    source = with_never(make_source(tmp_path, [[(0, FULL)]]), [(0, LEFT)])
    for region in ("box", "best"):
        found = sample(source, region=region, load_segments=True)
        assert found.segments is not None
        assert [columns(segment) for segment in found.segments] == [[*range(10, 15)]]
        assert (found.segments <= found.masks).all()


# Places where evidence must not lie
def test_a_mask_is_what_is_allowed_less_what_is_not(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, (0, 0, 20, 20)), (3, RIGHT)]]), [(0, LEFT), (1, RIGHT)])
    found = sample(source)
    assert covered(found) == {0: [*THIRDS["middle"]], 1: [*range(20)], 3: [*THIRDS["right"]]}
    assert found.kinds is not None
    assert found.kinds.tolist() == [BOX, NEVER, BOX]
    assert found.never is not None
    assert [columns(never) for never in found.never] == [[*THIRDS["left"]], [*THIRDS["right"]], []]
    assert covered(sample(source, region="segment")) == {0: [*range(10, 15)], 1: [*range(20)]}
    assert sample(source, annotated=[]).classes.tolist() == []
    inverted = sample(dataclasses.replace(source, complement=True))
    assert covered(inverted) == {0: [*range(20, 30)], 1: [*range(20)], 3: [*range(20)]}  # never boxes stay as they are


def test_regions_are_neither_inverted_nor_dropped_unless_asked_for() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 4.0, 1.0]])
    view = {"image": torch.zeros(3, 1, 4), "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(1, 4))}
    none = unannotated(1, 4)
    annotation = Annotation(
        classes=[5, 7], kinds=[BOX, NEVER], boxes=boxes, box_rows=[0, 1],
        forbidden=[False, True], segments=none.segments, segment_rows=none.segment_rows, skipped=0,
    )  # fmt: skip
    found = resolve(view, annotation)
    assert found.classes.tolist() == [5, 7]
    assert found.masks.int().tolist() == [[[1, 0, 0, 0]], [[1, 1, 0, 0]]]


def test_never_regions_are_loaded_where_a_split_has_them(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)], [(0, LEFT)]])
    assert sample(source).never is None
    half = with_never(source, [(0, RIGHT)])
    batch = collate([sample(half, 0), sample(half, 1)])
    assert batch.regions.never is not None
    assert [bool(never.any()) for never in batch.regions.never] == [True, False]
    assert batch.regions.kind is not None
    assert batch.regions.kind.tolist() == [BOX, BOX]


def test_pairs_that_nothing_is_left_of_are_dropped(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (1, FULL)]]), [(0, (0, 0, 15, 20)), (3, FULL)])
    found = sample(source)  # class 0: its box is forbidden; class 3: everything is
    assert (found.classes.tolist(), found.dropped) == ([1], 2)
    alone = with_never(make_source(tmp_path, [[(0, LEFT)]]), [(2, RIGHT)])
    found = sample(alone, never_alone=False)
    assert (found.classes.tolist(), found.dropped) == ([0], 1)


def test_a_never_box_that_a_crop_removes_annotates_nothing(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[]]), [(0, (0, 0, 1, 1))])
    crops = GuidanceDataset(source, train_transform(30, "crop_flip", scale=(0.3, 0.4)), training=True)
    found = [crops[epoch, 0] for epoch in range(20)]
    assert all(len(s.classes) + s.dropped == 1 for s in found)
    assert 0 < sum(s.dropped for s in found) < 20
    assert all(s.never is not None and s.never.flatten(1).any(1).all() for s in found)


def test_faulty_never_boxes_are_named_or_counted(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT)]]), [(0, (3, 3, 3, 9))])
    with pytest.raises(ValueError, match=r"0\.png has no area"):
        sample(source)
    found = sample(source, on_error="skip")
    assert (covered(found), found.skipped) == ({0: [*range(10)]}, 1)


def test_chunks_and_devices_keep_everything_of_a_pair(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (3, FULL)], [(1, RIGHT)]]), [(3, LEFT), (2, LEFT)])
    batch = collate([sample(source, i, region="best", load_segments=True) for i in range(2)])
    for name in Regions._fields:
        assert getattr(batch.to("cpu").regions, name) is getattr(batch.regions, name)
    first, second = batch.chunk(2)
    assert (first.regions.image.tolist(), second.regions.image.tolist()) == ([0, 0, 0], [0])
    for name in ("target", "mask", "segment", "kind", "never"):
        whole, parts = getattr(batch.regions, name), [getattr(part.regions, name) for part in (first, second)]
        assert torch.equal(torch.cat(parts), whole), name
    assert first.regions.kind is not None
    assert first.regions.kind.tolist() == [SEGMENT, NEVER, BOX]
    bare = Regions(*(torch.zeros(0, dtype=torch.long),) * 2, torch.zeros(0, 2, 2, dtype=torch.bool), None, 0)
    moved = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, 1), bare, *(torch.zeros(1),) * 2).to("cpu").regions
    assert (moved.segment, moved.kind, moved.never, moved.rounds) == (None, None, None, 0)


def test_pairs_that_know_only_where_evidence_must_not_lie() -> None:
    record = Record(
        Path("a"), (0, 1), ((0, 0, 1, 1),), (0,), never_boxes=((0, 0, 1, 1),) * 4, never_classes=(0, 1, 1, 2)
    )
    assert [only_never([record], region) for region in ("box", "segment", "best")] == [2, 3, 2]
    record = record._replace(segmentation=Path("s"))  # of its classes 0 and 1
    assert [only_never([record], region) for region in ("box", "segment", "best")] == [2, 1, 1]
    assert only_never([record, record, RECORDS["box"]], "box") == 4
