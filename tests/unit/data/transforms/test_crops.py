"""Crops, of an evaluation and in training."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from guidance.data import eval_transform, to_display, train_transform
from guidance.data.transforms.crops import USUAL, ShiftedCrop
from guidance.data.transforms.evaluation import CROPS
from guidance.data.transforms.randaugment import RandAugment
from guidance.data.transforms.views import View
from guidance.regions import boxes_to_mask
from tests.support.data.pictures import box_view, picture


def dilated(mask: Tensor, radius: int) -> Tensor:
    return torch.nn.functional.max_pool2d(mask[None].float(), 2 * radius + 1, 1, radius)[0] > 0


# Evaluation crops
def gradient_view(height: int, width: int) -> View:
    """Red is the column and green the row, so that a crop shows where it was taken."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((columns, rows, torch.zeros_like(rows))).to(torch.uint8)
    return box_view((10.0, 20.0, 50.0, 60.0), height, width) | {"image": tv_tensors.Image(pixels)}


def pixels(image: Tensor) -> Tensor:
    return (to_display(image[None], "normalized")[0] * 255).round().int()


def test_center_crop_by_hand() -> None:
    """128 x 160 -> short side 64 * 256/224 = 73, hence 73 x 91; of it the middle 64 x 64."""
    view = eval_transform(64, crop="center")(gradient_view(128, 160))
    assert view["image"].shape == (3, 64, 64)
    assert view["segments"].shape == (1, 64, 64)
    scale, left, top = 73 / 128, round((91 - 64) / 2), round((73 - 64) / 2)
    expected = torch.tensor([10 * 91 / 160 - left, 20 * scale - top, 50 * 91 / 160 - left, 60 * scale - top]).clamp(
        0, 64
    )
    torch.testing.assert_close(view["boxes"][0].as_subclass(Tensor), expected, rtol=0, atol=0.51)
    middle = pixels(view["image"])[:2, 32, 32].tolist()
    assert middle == pytest.approx([80, 64], abs=1.6)
    box = boxes_to_mask(view["boxes"], 64, 64)[0]
    border = dilated(box, 1) & dilated(~box, 1)
    assert not (((view["segments"][0] > 0) != box) & ~border).any()


@pytest.mark.parametrize(("height", "width"), [(100, 140), (140, 100), (100, 100)])
def test_shifted_crops_lie_at_the_four_corners_around_the_centre(height: int, width: int) -> None:
    """A quarter of the short side: squares of half of it, each with a corner at the centre of the image."""
    transform, found = eval_transform(50, crop="shifted"), {}
    for seed in range(40):
        torch.manual_seed(seed)
        view = transform(gradient_view(height, width))
        assert view["image"].shape == (3, 50, 50)
        left, top = pixels(view["image"])[:2, 0, 0].tolist()  # 50 pixels stay 50 pixels: nothing is interpolated
        found[left, top] = found.get((left, top), 0) + 1
        right, bottom = pixels(view["image"])[:2, -1, -1].tolist()
        assert (right - left, bottom - top) == (49, 49)
        expected = torch.tensor([10 - left, 20 - top, 50 - left, 60 - top]).clamp(0, 50).float()
        assert torch.equal(view["boxes"][0].as_subclass(Tensor), expected)
        assert torch.equal(view["segments"][0] > 0, boxes_to_mask(view["boxes"], 50, 50)[0])
    columns, rows = (width // 2 - 50, width // 2), (height // 2 - 50, height // 2)
    assert set(found) == {(x, y) for x in columns for y in rows}
    assert min(found.values()) >= 3


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.49]), st.integers(0, 99))
def test_shifted_crops_stay_inside_any_image(height: int, width: int, shift: float, seed: int) -> None:
    """A pixel from outside would be black."""
    white = {"image": tv_tensors.Image(torch.full((3, height, width), 255, dtype=torch.uint8))}
    torch.manual_seed(seed)
    result = ShiftedCrop(9, shift)(white)["image"]
    assert result.shape == (3, 9, 9)
    assert (result == 255).all()


def test_a_shift_is_a_share_of_the_short_side() -> None:
    torch.manual_seed(0)
    left, top = pixels(eval_transform(80, crop="shifted", shift=0.1)(gradient_view(100, 200))["image"])[
        :2, 0, 0
    ].tolist()
    assert left in (100 - 10 - 40, 100 + 10 - 40)
    assert top in (0, 20)
    torch.manual_seed(0)
    whole = eval_transform(100, crop="shifted", shift=0.0)(gradient_view(100, 200))
    assert pixels(whole["image"])[:2, 0, 0].tolist() == [50, 0]
    for shift in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"evaluation\.shift is a share of the short side"):
            eval_transform(8, crop="shifted", shift=shift)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (64, 64)])
def test_shifted_center_crops_have_the_scale_of_the_centre_crop(height: int, width: int) -> None:
    """56 pixels of a short side of 64, which is 256/224 of them: nothing is resized, so every pixel tells where it was."""
    transform, found = eval_transform(56, crop="shifted_center", shift=0.25), set()
    for seed in range(30):
        torch.manual_seed(seed)
        view = transform(gradient_view(height, width))
        shown = pixels(view["image"])
        inside = shown[:2].sum(0) > 0  # but for the pixel (0, 0), which is black itself
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        # A pixel that is shown lies where it lay in the file, moved by whole pixels and not magnified.
        lefts = set((shown[0, rows[-1], columns] - columns).tolist())
        tops = set((shown[1, rows, columns[-1]] - rows).tolist())
        assert len(lefts) == len(tops) == 1
        left, top = lefts.pop(), tops.pop()
        found.add((left, top))
        visible = torch.zeros(56, 56, dtype=torch.bool)
        visible[max(0, -top) : height - top, max(0, -left) : width - left] = True
        assert not (inside & ~visible).any(), "outside of the image it is black"
        expected = torch.tensor([10 - left, 20 - top, 50 - left, 60 - top]).clamp(0, 56).float()
        assert torch.equal(view["boxes"][0].as_subclass(Tensor), expected)
        assert torch.equal(view["segments"][0] > 0, boxes_to_mask(view["boxes"], 56, 56)[0])
    centres = {(left + 28 - width // 2, top + 28 - height // 2) for left, top in found}
    assert centres == {(x, y) for x in (-16, 16) for y in (-16, 16)}


def test_without_a_shift_it_is_the_centre_crop() -> None:
    view = gradient_view(100, 130)
    shifted, centre = (eval_transform(64, crop=crop, shift=0.0)(view) for crop in ("shifted_center", "center"))
    assert all(torch.equal(shifted[key], centre[key]) for key in centre)
    with pytest.raises(ValueError, match=r"evaluation\.shift is a share of the short side"):
        eval_transform(8, crop="shifted_center", shift=0.5)


def test_training_crops_as_evaluation_does() -> None:
    view = gradient_view(100, 130)
    ours, theirs = train_transform(64, crop="center")(view), eval_transform(64, crop="center")(view)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(ValueError, match=r"data\.crop"):
        train_transform(64, crop="shifted")


def test_randaugment_alone_mirrors_nothing() -> None:
    """The operations on the centre crop, with the draws that they make by themselves; no flip is drawn first."""
    view = gradient_view(100, 130)
    crop = CROPS["center"](64, 0.0, USUAL)
    for seed in range(5):
        torch.manual_seed(seed)
        found = train_transform(64, "randaugment_only", crop="center", randaugment_ops=2)(view)
        torch.manual_seed(seed)
        expected = view
        for step in (*crop, RandAugment(2, 9)):
            expected = step(expected)
        assert torch.equal(pixels(found["image"]), expected["image"].as_subclass(Tensor).int())
        assert torch.equal(found["boxes"], expected["boxes"])


@pytest.mark.parametrize("crop", CROPS)
def test_crops_are_picklable_and_take_images_alone(crop: str) -> None:
    transform = pickle.loads(pickle.dumps(eval_transform(16, "inverse", crop=crop)))
    assert transform({"image": picture()})["image"].shape == (6, 16, 16)
    assert set(transform({"image": picture()})) == {"image"}
    if crop == "none":
        assert torch.equal(
            transform({"image": picture()})["image"], eval_transform(16, "inverse")({"image": picture()})["image"]
        )
