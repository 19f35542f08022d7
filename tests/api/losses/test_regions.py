"""Boxes and masks as users have them, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.api.regions import annotated_pairs, clipped, regions_of
from guidance.regions import BOX, SEGMENT
from guidance.types import Regions

TARGETS = torch.tensor([2, 0])
MULTI = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
BOXES = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
MASK = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)


def regions(targets: Tensor, *args: Any, **more: Any) -> Regions:
    return regions_of(annotated_pairs(targets, *args, **more), 4, 3)


def test_boxes_of_the_only_class() -> None:
    found = regions(TARGETS, [None, BOXES])
    assert (found.image.tolist(), found.target.tolist(), found.rounds) == ([1], [0], 1)
    assert found.mask.int().tolist() == [[[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 1, 1]]]
    assert found.kind is not None
    assert found.kind.tolist() == [BOX]


def test_classes_in_order_whatever_the_order_given() -> None:
    found = regions(MULTI, [{2: BOXES[:1], 0: BOXES[1:]}, None])
    assert (found.image.tolist(), found.target.tolist(), found.rounds) == ([0, 0], [0, 2], 2)
    assert found.mask.sum((1, 2)).tolist() == [4, 2]


def test_masks_in_every_form() -> None:
    both = torch.stack([MASK, torch.zeros_like(MASK)])
    forms: list[tuple[Any, Any]] = [
        ([MASK, None], None), ([{2: MASK}, None], None), (both, None), (torch.stack([MASK, MASK]), torch.tensor([True, False])),
    ]  # fmt: skip
    for masks, annotated in forms:
        found = regions(TARGETS, masks=masks, annotated=annotated)
        assert (found.image.tolist(), found.target.tolist()) == ([0], [2])
        assert torch.equal(found.mask[0], MASK)
        assert found.kind is not None
        assert found.kind.tolist() == [SEGMENT]


def test_an_image_of_several_classes_may_have_an_empty_place_of_none() -> None:
    for empty in (torch.zeros(0, 4), torch.zeros(4, 3, dtype=torch.bool)):
        what = "masks" if empty.dtype == torch.bool else "boxes"
        assert annotated_pairs(MULTI, **{what: [empty, None]}) == []  # type: ignore[arg-type]


def test_a_mask_takes_the_place_of_boxes_of_its_class_alone() -> None:
    found = regions(MULTI, [{0: BOXES, 2: BOXES}, None], [{2: MASK}, None])
    assert found.target.tolist() == [0, 2]
    assert found.mask.sum((1, 2)).tolist() == [6, 4]


def test_boxes_that_stick_out_are_cut_off_and_counted() -> None:
    pairs = annotated_pairs(TARGETS, [torch.tensor([[-5.0, 3.0, 2.0, 9.0]]), BOXES])
    assert regions_of(pairs, 4, 3).mask[0].int().tolist() == [[0, 0, 0]] * 3 + [[1, 1, 0]]
    assert clipped(pairs, 4, 3) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": [None, torch.tensor([[1.0, 1.0, 1.0, 2.0]])]}, r"the box .* of image 1 has no area"),
        ({"boxes": [torch.tensor([[float("nan"), 1, 2, 2]]), None]}, r"the box .* of image 0 has no area"),
        ({"boxes": [None, torch.tensor([[3.0, 1.0, 9.0, 2.0]])]}, r"of image 1 lies outside .* \(width 3, height 4\)"),
        ({"boxes": [None]}, "boxes has 1 entries for 2 images"),
        ({"boxes": [{1: BOXES}, None]}, r"the boxes of image 0 are of class 1, which is none of its targets \(\[2\]\)"),
        ({"boxes": [torch.zeros(2, 5), None]}, r"boxes of image 0 are \[2, 5\]"),
        ({"boxes": [MASK, None]}, "boxes of image 0 are .*bool; expected"),
        ({"masks": [None, MASK[:2]]}, r"the mask of image 1 is \[2, 3\], but images are \[4, 3\]"),
        ({"masks": [MASK.float(), None]}, "masks of image 0 are .*float32; expected"),
        ({"masks": torch.zeros(2, 4, 3).bool(), "annotated": torch.tensor([False, True])}, "image 1 is annotated, but"),
        ({"annotated": torch.tensor([True, False])}, "image 0 is annotated, but its mask is empty"),
        ({"masks": [MASK, None], "annotated": torch.tensor([True])}, "annotated has 1 entries for 2 images"),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_the_image(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regions(TARGETS, **given)


def test_places_of_an_image_of_several_classes_must_say_whose_they_are() -> None:
    for image, number in ((0, 2), (1, 0)):
        places = [BOXES if i == image else None for i in range(2)]
        with pytest.raises(
            ValueError, match=f"the boxes of image {image} do not say of which class they are, and it has {number}"
        ):
            regions(MULTI, places)
