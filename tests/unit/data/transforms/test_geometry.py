"""Boxes and segmentations move alike: the mask of a transformed box against the transformed mask of the box.

They agree up to one pixel of boundary: a mask is rounded to pixels before it is transformed, a box after it. One pixel of
the file may be several pixels of an enlarged image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import max_pool2d, pad
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from guidance.data import GuidanceDataset, Record, Source, eval_transform, train_transform
from guidance.data.transforms.training import AUGMENTATIONS
from guidance.regions import boxes_to_mask
from tests.support.data.datasets import make_dataset

Box = tuple[float, float, float, float]
sides = st.integers(8, 40)
shares = st.floats(0, 1, width=32)
# Those that keep the edges of a box upright; the operations of RandAugment have tests of their own (test_transforms.py).
UPRIGHT = sorted(set(AUGMENTATIONS) - {"randaugment", "randaugment_only"})


@st.composite
def pictures(draw: Callable[..., Any], smallest: float = 0.0) -> tuple[int, int, Box]:
    """Height and width of a file, and a box in it, of at least `smallest` pixels a side."""
    height, width = draw(sides), draw(sides)

    def axis(size: int) -> tuple[float, float]:
        length = smallest + draw(shares) * (size - smallest)
        low = draw(shares) * (size - length)
        return low, min(low + max(length, 1e-3), float(size))

    (x0, x1), (y0, y1) = axis(width), axis(height)
    return height, width, (x0, y0, x1, y1)


def grown(mask: Tensor, rows: int, columns: int) -> Tensor:
    """`mask` [1, H, W] with `rows` and `columns` more on each side."""
    size, padding = (2 * rows + 1, 2 * columns + 1), (rows, columns)
    return max_pool2d(mask.float(), size, stride=1, padding=padding) > 0


def core(mask: Tensor, rows: int, columns: int) -> Tensor:
    """`mask` less as much on each side; what lies outside the canvas is not part of it."""
    outside = pad(~mask, (columns, columns, rows, rows), value=True)
    return ~grown(outside, rows, columns)[:, rows : rows + mask.shape[1], columns : columns + mask.shape[2]]


def assert_alike(ours: Tensor, other: Tensor, rows: int = 1, columns: int = 1) -> None:
    """Both masks [1, H, W] differ only at the boundary, by so many rows and columns."""
    assert not (other & ~grown(ours, rows, columns)).any()
    assert not (core(ours, rows, columns) & ~other).any()


def both(height: int, width: int, box: Box, move: Callable[[Any], Any]) -> tuple[Tensor, Tensor]:
    """mask(move(box)) and move(mask(box)), each [1, H, W] bool."""
    boxes = tv_tensors.BoundingBoxes(torch.tensor([box]), format="XYXY", canvas_size=(height, width))
    mask = tv_tensors.Mask(boxes_to_mask(torch.tensor([box]), height, width).to(torch.uint8))
    moved = move(boxes)
    return boxes_to_mask(moved.as_subclass(Tensor), *moved.canvas_size), move(mask).as_subclass(Tensor) > 0


@settings(deadline=None, max_examples=100)
@given(pictures(), sides, sides)
def test_resize(picture: tuple[int, int, Box], new_height: int, new_width: int) -> None:
    height, width, box = picture
    ours, other = both(height, width, box, lambda x: functional.resize(x, [new_height, new_width]))
    assert_alike(ours, other, max(1, math.ceil(new_height / height)), max(1, math.ceil(new_width / width)))


@settings(deadline=None, max_examples=60)
@given(pictures())
def test_horizontal_flip(picture: tuple[int, int, Box]) -> None:
    ours, other = both(*picture, functional.horizontal_flip)
    assert_alike(ours, other, rows=0)


@settings(deadline=None, max_examples=100)
@given(pictures(), shares, shares, shares, shares)
def test_crop(picture: tuple[int, int, Box], top: float, left: float, high: float, wide: float) -> None:
    height, width, _ = picture
    size = 1 + int(high * (height - 1)), 1 + int(wide * (width - 1))
    start = int(top * (height - size[0])), int(left * (width - size[1]))
    assert_alike(*both(*picture, lambda x: functional.crop(x, *start, *size)))


@settings(deadline=None, max_examples=60)
@given(pictures(smallest=1.0), st.floats(-180, 180), st.floats(0.5, 1.5), st.floats(-20, 20))
def test_affine(picture: tuple[int, int, Box], angle: float, scale: float, shear: float) -> None:
    """A box becomes the box around the turned box, which contains the turned mask, and reaches no further than needed."""
    height, width, (x0, y0, x1, y1) = picture
    shift = 20  # so that nothing leaves the canvas, where it would be cut off
    box = (x0 + shift, y0 + shift, x1 + shift, y1 + shift)

    def move(x: Any) -> Any:
        return functional.affine(x, angle=angle, translate=[0, 0], scale=scale, shear=[shear, 0.0])

    canvas = (height + 2 * shift, width + 2 * shift)
    ours, other = both(*canvas, box, move)
    reach = max(1, math.ceil(scale * 1.2))
    assert not (other & ~grown(ours, reach, reach)).any()
    if angle == shear == 0:
        assert_alike(ours, other, reach, reach)


def test_a_turned_box_is_the_box_around_it() -> None:
    """10 x 4 pixels, turned by 90 degrees about the middle of the image: 4 x 10; by 45 degrees: 7 sqrt(2) a side."""
    box = (5.0, 8.0, 15.0, 12.0)
    for angle, (width, height) in {90: (4, 10), 45: (9.9, 9.9)}.items():
        ours, other = both(20, 20, box, lambda x, angle=angle: functional.affine(x, angle, [0, 0], 1.0, [0.0, 0.0]))
        assert ours.any(1).sum().item() == pytest.approx(width, abs=1)
        assert ours.any(2).sum().item() == pytest.approx(height, abs=1)
        assert ours.sum() == other.sum() if angle == 90 else ours.sum() > 1.5 * other.sum()


# The transforms of the project: what a dataset delivers for a box, and for the same place as a segmentation


def dataset(height: int, width: int, box: Box, transform: Any, **options: Any) -> GuidanceDataset:
    """One image with one box, whose segmentation covers the same pixels."""
    segment = boxes_to_mask(torch.tensor([box]), height, width)[0]
    record = Record(Path("x.png"), (0,), (box,), (0,), segmentation=Path("x-mask.png"))

    def read_segments(record: Record) -> Mapping[int, Tensor]:
        return {0: segment}

    source = Source("one", "train", ("a",), (record,), True, read_segments=read_segments)
    image = (segment * 255).to(torch.uint8).expand(3, -1, -1).contiguous()
    return make_dataset(source, transform, training=True, read=lambda index: (image, (height, width)), **options)


@settings(deadline=None, max_examples=60)
@given(pictures(smallest=3.0), st.sampled_from(UPRIGHT), st.integers(0, 1000))
def test_every_augmentation_moves_boxes_and_segmentations_alike(
    picture: tuple[int, int, Box], augmentation: str, epoch: int
) -> None:
    height, width, box = picture
    transform = train_transform(12, augmentation, "inverse")
    reach = math.ceil(12 / (0.6 * min(height, width)))  # a crop of half of the area has 0.6 of the shorter side or more
    found = dataset(height, width, box, transform, region="box", load_segments=True)[epoch, 0]
    segment = dataset(height, width, box, transform, region="segment")[epoch, 0]
    for sample in (found, segment):
        assert len(sample.classes) + sample.dropped == 1
    if len(found.classes) and len(segment.classes):
        assert_alike(found.masks, segment.masks, reach, reach)
        assert found.segments is not None
        assert torch.equal(found.segments, segment.masks)
        white = (found.image[:1] > 0.999) | (segment.masks & (found.image[:1] > 0.5))
        assert not (white & ~grown(found.masks, reach, reach)).any()


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.sampled_from(UPRIGHT), st.integers(2, 40), st.integers(0, 1000))
def test_a_full_image_stays_full(height: int, width: int, augmentation: str, size: int, epoch: int) -> None:
    transform = train_transform(size, augmentation, scale=(0.1, 1.0))
    for region in ("box", "segment", "best"):
        sample = dataset(height, width, (0.0, 0.0, width, height), transform, region=region)[epoch, 0]
        assert sample.masks.shape == (1, size, size)
        assert sample.masks.all()


@settings(deadline=None, max_examples=100)
@given(
    sides, sides, shares, shares, st.floats(1e-3, 2), st.sampled_from(["box", "segment", "best"]), st.integers(0, 1000)
)
def test_a_tiny_region_never_silently_vanishes(
    height: int, width: int, x: float, y: float, side: float, region: str, epoch: int
) -> None:
    """After a crop, or where a segmentation falls between the pixels of a smaller image, it is counted as dropped."""
    x0, y0 = x * (width - side), y * (height - side)
    box = (x0, y0, x0 + side, y0 + side)
    for augmentation in AUGMENTATIONS:
        transform = train_transform(6, augmentation, scale=(0.2, 0.6))
        sample = dataset(height, width, box, transform, region=region)[epoch, 0]
        assert len(sample.classes) + sample.dropped == 1
        assert sample.masks.flatten(1).any(1).all()
        if region == "box" and augmentation in ("none", "flip"):
            assert sample.dropped == 0
    whole = dataset(height, width, box, eval_transform(max(height, width)), region=region)[0, 0]
    assert whole.dropped == 0  # nothing falls between the pixels of an image that is not smaller
