"""Images and annotations that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.data import (
    GuidanceDataset,
    Sample,
    Source,
    UnreadableError,
    collate,
    eval_transform,
)
from guidance.data.source import Record
from tests.support.data.datasets import FULL, LEFT, RIGHT, make_dataset
from tests.support.data.pictures import make_source, write_broken


def dataset(source: Source, *, size: int = 30, training: bool = False, **options: Any) -> GuidanceDataset:
    return make_dataset(source, eval_transform(size), training=training, **options)


def same(a: Sample, b: Sample) -> bool:
    pairs: list[tuple[Any, Any]] = list(zip(a, b, strict=True))
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def test_unreadable_images_are_replaced_in_training(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)], [(1, LEFT)], [(2, LEFT)], [(3, LEFT)]])
    write_broken(source.records[1].path)
    source.records[2].path.unlink()
    write_broken(source.records[3].path)
    data = dataset(source, training=True, on_error="skip", annotated=[0, 1])
    assert [(data[0, i].index, data[0, i].skipped) for i in range(4)] == [(0, 0), (0, 3), (0, 2), (0, 1)]
    assert same(data[0, 1]._replace(skipped=0), data[0, 0])
    for i in range(1, 4):
        with pytest.raises(UnreadableError, match=rf"{i}\.png"):
            dataset(source, training=True)[0, i]


def test_a_split_without_any_readable_image_is_an_error(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)], [(1, LEFT)]])
    for record in source.records:
        record.path.unlink()
    with pytest.raises(UnreadableError, match="no image of pictures train can be read"):
        dataset(source, training=True, on_error="skip")[0, 0]


def test_unreadable_images_are_left_out_of_evaluation(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT), (1, FULL)], [(1, LEFT)], [(2, RIGHT)]])
    write_broken(source.records[1].path)
    data = dataset(source, on_error="skip", load_segments=True)
    batch = collate([data[0, i] for i in range(3)])
    assert (batch.index.tolist(), batch.groups.tolist(), batch.skipped) == ([0, 2], [0, 0], 1)
    assert (batch.regions.image.tolist(), batch.regions.target.tolist()) == ([0, 0, 1], [0, 1, 2])
    nothing = collate([data[0, 1]])
    assert (nothing.images.shape, nothing.targets.shape, nothing.skipped) == ((0, 3, 30, 30), (0, 4), 1)
    assert nothing.regions.mask.shape == (0, 30, 30)
    assert nothing.regions.segment is not None
    assert nothing.regions.segment.shape == (0, 30, 30)
    assert nothing.regions.rounds == 0
    with pytest.raises(UnreadableError, match=r"1\.png"):
        dataset(source)[0, 1]


def test_faulty_boxes_are_dropped_and_counted(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (5, 5, 5, 9)), (1, (30, 0, 60, 20)), (2, LEFT), (3, (20, 0, 60, 20))]])
    sample = dataset(source, on_error="skip")[0, 0]
    assert (sample.classes.tolist(), sample.skipped, sample.dropped, sample.clipped) == ([2, 3], 2, 0, 1)
    assert sample.targets.tolist() == [1, 1, 1, 1]  # the labels stay
    with pytest.raises(ValueError, match=r"0\.png has no area"):
        dataset(source)[0, 0]
    assert dataset(source, annotated=[])[0, 0].skipped == 0  # boxes that nobody uses do no harm


def wrong_size(record: Record) -> dict[int, Tensor]:
    return {0: torch.ones(7, 7, dtype=torch.bool)}


def test_faulty_segmentations_are_named_or_counted(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=wrong_size)
    with pytest.raises(UnreadableError, match=r"\(7, 7\).*0\.png is \(20, 30\)"):
        dataset(source, load_segments=True)[0, 0]
    sample = dataset(source, load_segments=True, on_error="skip")[0, 0]
    assert (sample.classes.tolist(), sample.skipped) == ([0], 1)
    assert sample.segments is not None
    assert not sample.segments.any()
