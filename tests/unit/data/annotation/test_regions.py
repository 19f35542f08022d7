"""Boxes to masks: exact grids, a slow reference, and properties that must hold for every box."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guidance.regions import boxes_to_mask, complement, dilate_boxes, not_empty, paint_boxes

sides = st.integers(1, 12)
numbers = st.floats(-3, 15, width=32)


def one_mask(box: tuple[float, float, float, float], height: int = 4, width: int = 4) -> list[list[int]]:
    return boxes_to_mask(torch.tensor([box]), height, width)[0].int().tolist()


def slow_mask(box: tuple[float, float, float, float], height: int, width: int) -> list[list[bool]]:
    """The rule of `boxes_to_mask`, one axis and one pixel at a time, in float64."""

    def axis(low: float, high: float, size: int) -> list[bool]:
        low, high = min(max(low, 0.0), size), min(max(high, 0.0), size)
        if not low < high:
            return [False] * size
        inside = [low <= i + 0.5 < high for i in range(size)]
        if not any(inside):
            inside[min(math.floor((low + high) / 2), size - 1)] = True
        return inside

    rows, columns = axis(box[1], box[3], height), axis(box[0], box[2], width)
    return [[row and column for column in columns] for row in rows]


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    assert one_mask((1, 0, 3, 2)) == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert one_mask((0.5, 0, 1.5, 1)) == [[1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]  # x0 counts, x1 does not
    assert one_mask((0.6, 0.6, 2.4, 3.5)) == [[0] * 4, [0, 1, 0, 0], [0, 1, 0, 0], [0] * 4]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 3), (224, 224), (1, 1)])
def test_a_full_image_box_covers_every_pixel(height: int, width: int) -> None:
    assert boxes_to_mask(torch.tensor([[0.0, 0.0, width, height]]), height, width).all()


def test_a_full_image_box_survives_the_rounding_of_a_resize() -> None:
    for size in range(100, 640):  # what a resize of boxes computes, in float32
        edge = torch.tensor([0.0, 0.0, float(size), float(size)]) * (224 / size)
        assert boxes_to_mask(edge[None], 224, 224).all()


def test_tiny_boxes_take_the_pixel_that_holds_their_middle() -> None:
    assert one_mask((2.6, 1.6, 2.9, 1.9)) == [[0] * 4, [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert one_mask((3.8, 3.8, 4.0, 4.0))[3] == [0, 0, 0, 1]
    just_below = torch.nextafter(torch.tensor(4.0), torch.tensor(0.0)).item()  # the mean with 4 rounds to 4
    assert one_mask((just_below, just_below, 4.0, 4.0))[3] == [0, 0, 0, 1]
    assert one_mask((0.6, 1, 0.9, 3)) == [[0] * 4, [1, 0, 0, 0], [1, 0, 0, 0], [0] * 4]  # thin: a line, not a point


@pytest.mark.parametrize(
    "box", [(1, 1, 1, 3), (1, 1, 3, 1), (2, 2, 2, 2), (3, 1, 1, 3), (-5, -5, -1, -1), (4, 0, 9, 4), (math.nan, 0, 4, 4)]
)
def test_a_box_without_area_in_the_canvas_is_empty(box: tuple[float, float, float, float]) -> None:
    assert one_mask(box) == [[0] * 4] * 4


def test_boxes_outside_are_cut_at_the_canvas() -> None:
    assert one_mask((-5, 2, 2, 99)) == [[0] * 4, [0] * 4, [1, 1, 0, 0], [1, 1, 0, 0]]


@settings(deadline=None)
@given(st.tuples(numbers, numbers, numbers, numbers), sides, sides)
def test_masks_equal_the_slow_reference(box: tuple[float, float, float, float], height: int, width: int) -> None:
    assert boxes_to_mask(torch.tensor([box], dtype=torch.float64), height, width)[0].tolist() == slow_mask(
        box, height, width
    )


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=5), sides, sides)
def test_batched_masks_equal_single_ones(
    boxes: list[tuple[float, float, float, float]], height: int, width: int
) -> None:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = boxes_to_mask(tensor, height, width)
    assert masks.shape == (len(boxes), height, width)
    assert masks.dtype == torch.bool
    for box, mask in zip(tensor, masks, strict=True):
        assert torch.equal(boxes_to_mask(box[None], height, width)[0], mask)


@settings(deadline=None)
@given(st.tuples(numbers, numbers, numbers, numbers), sides, sides)
def test_a_mirrored_box_gives_the_mirrored_mask(
    box: tuple[float, float, float, float], height: int, width: int
) -> None:
    x0, y0, x1, y1 = (math.floor(4 * value) / 4 + 0.125 for value in box)  # no edge on a pixel centre
    x0, x1 = sorted((x0, x1))
    mask = boxes_to_mask(torch.tensor([[x0, y0, x1, y1]]), height, width)
    mirrored = boxes_to_mask(torch.tensor([[width - x1, y0, width - x0, y1]]), height, width)
    middle = (max(x0, 0) + min(x1, width)) / 2
    if middle == math.floor(middle) and x1 - x0 < 1:
        return  # a sliver around a pixel border belongs to the pixel after it, in either direction
    assert torch.equal(mask.flip(-1), mirrored)


def test_no_box_gives_no_mask() -> None:
    assert boxes_to_mask(torch.zeros(0, 4), 4, 5).shape == (0, 4, 5)
    assert dilate_boxes(torch.zeros(0, 4), 0.5, 4, 5).shape == (0, 4)
    assert paint_boxes(torch.zeros(0, 4), [], 0, 4, 5).shape == (0, 4, 5)
    assert not paint_boxes(torch.zeros(0, 4), [], 2, 4, 5).any()


def test_dilation_moves_each_side_and_clamps() -> None:
    boxes = torch.tensor([[10.0, 10, 110, 60], [100, 100, 120, 140]])
    assert dilate_boxes(boxes, 0.5, 224, 224).tolist() == [[0, 0, 160, 85], [90, 80, 130, 160]]
    assert dilate_boxes(boxes, 0, 224, 224).tolist() == boxes.tolist()
    assert dilate_boxes(boxes, 0.5, 80, 100).tolist() == [[0, 0, 100, 80], [90, 80, 100, 80]]


@pytest.mark.parametrize("fraction", [-0.1, math.nan])
def test_dilation_refuses_to_shrink(fraction: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        dilate_boxes(torch.zeros(1, 4), fraction, 4, 4)


@settings(deadline=None)
@given(st.tuples(numbers, numbers, numbers, numbers), st.floats(0, 2), sides, sides)
def test_a_dilated_box_covers_the_box(
    box: tuple[float, float, float, float], fraction: float, height: int, width: int
) -> None:
    (x0, x1), (y0, y1) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    boxes = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float64)
    dilated = dilate_boxes(boxes, fraction, height, width)
    low, high = dilated[:, :2], dilated[:, 2:]
    limit = torch.tensor([[width, height]], dtype=torch.float64)
    assert (low <= boxes[:, :2].clamp_min(0).minimum(limit)).all()
    assert (high >= boxes[:, 2:].clamp_min(0).minimum(limit)).all()


def test_boxes_of_a_row_are_joined() -> None:
    pixels = torch.tensor([[i, 0.0, i + 1, 1] for i in range(4)])
    painted = paint_boxes(pixels, [2, 0, 2, 2], 3, 1, 4)
    assert painted.int().tolist() == [[[0, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 1, 1]]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.tuples(numbers, numbers, numbers, numbers)), max_size=6), sides, sides)
def test_the_union_equals_that_of_single_masks(
    boxes: list[tuple[int, tuple[float, float, float, float]]], height: int, width: int
) -> None:
    tensor = torch.tensor([box for _, box in boxes], dtype=torch.float32).reshape(-1, 4)
    painted = paint_boxes(tensor, [row for row, _ in boxes], 4, height, width)
    for row, mask in enumerate(painted):
        own = [
            boxes_to_mask(box[None], height, width)[0]
            for box, (other, _) in zip(tensor, boxes, strict=True)
            if other == row
        ]
        assert torch.equal(mask, torch.stack([torch.zeros(height, width, dtype=torch.bool), *own]).any(0))


def test_complement_is_everything_else() -> None:
    mask = boxes_to_mask(torch.tensor([[1.0, 1, 3, 3]]), 4, 4)
    outside: Tensor = complement(mask)
    assert outside.sum() == 12
    assert not (outside & mask).any()


def test_not_empty() -> None:
    masks = torch.zeros(3, 2, 3, dtype=torch.bool)
    masks[1, 1, 2] = True
    assert not_empty(masks).tolist() == [False, True, False]
    assert not_empty(masks[:0]).shape == (0,)
