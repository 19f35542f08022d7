"""Images travel to the device as pixels, and are encoded there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.data import EvaluationBatches, GuidanceDataset, Loader, collate, eval_transform
from tests.support.data.pictures import make_source


@pytest.mark.parametrize("encoding", ["normalized", "inverse"])
def test_pixels_travel_and_are_encoded_where_they_arrive(tmp_path: Path, encoding: str) -> None:
    source = make_source(tmp_path, [[(0, (0.0, 0.0, 10.0, 20.0))]] * 3)
    data = GuidanceDataset(source, eval_transform(8, encoding), training=False)
    (batch,) = Loader(data, EvaluationBatches(3, 3))
    assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (3, 3, 8, 8))
    expected = collate([data[0, i] for i in range(3)])
    assert expected.images.dtype == torch.float32
    arrived = batch.to("cpu")
    assert torch.equal(arrived.images, expected.images)
    assert torch.equal(arrived.regions.mask, expected.regions.mask)
    assert arrived.encode is None
    for part, rows in zip(batch.chunk(2), (slice(0, 2), slice(2, 3)), strict=True):
        assert torch.equal(part.to("cpu").images, expected.images[rows])
