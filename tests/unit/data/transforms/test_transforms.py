"""Training and evaluation transforms: image, boxes and segmentations move together."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from guidance.data import eval_transform, to_display, train_transform
from guidance.data.transforms.training import AUGMENTATIONS
from guidance.data.transforms.views import Segments
from guidance.regions import boxes_to_mask
from tests.support.data.pictures import box_view

# These keep rectangles upright, and colours as they are.
SQUARE = sorted(set(AUGMENTATIONS) - {"randaugment", "randaugment_only"})
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_evaluation_stretches_and_normalises() -> None:
    image = torch.full((3, 20, 30), 255, dtype=torch.uint8)
    view = eval_transform(8)({"image": tv_tensors.Image(image)})
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert view["image"].shape == (3, 8, 8)
    assert type(view["image"]) is Tensor
    torch.testing.assert_close(view["image"], expected.view(3, 1, 1).expand(3, 8, 8))


def test_resize_is_bilinear_and_antialiased() -> None:
    values = np.asarray(Image.fromarray(PIXELS).resize((8, 8), Image.Resampling.BILINEAR)) / 255
    image = tv_tensors.Image(torch.from_numpy(PIXELS).permute(2, 0, 1).contiguous())
    ours = to_display(eval_transform(8)({"image": image})["image"][None], "normalized")
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - values).max() < 0.01


@pytest.mark.parametrize(("encoding", "channels"), [("normalized", 3), ("inverse", 6)])
def test_display_undoes_the_encoding(encoding: str, channels: int) -> None:
    image = torch.from_numpy(PIXELS).permute(2, 0, 1).contiguous()
    encoded = train_transform(20, "none", encoding)({"image": tv_tensors.Image(image[:, :, :20])})["image"][None]
    assert encoded.shape[1] == channels
    torch.testing.assert_close(to_display(encoded, encoding)[0], image[:, :, :20] / 255)
    if encoding == "inverse":
        assert torch.equal(encoded[:, 3:], 1 - encoded[:, :3])


@pytest.mark.parametrize("augmentation", SQUARE)
def test_transforms_are_picklable_and_keep_a_full_box_full(augmentation: str) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(16, augmentation)))
    for _ in range(20):
        view = transform(box_view((0.0, 0.0, 30.0, 20.0), 20, 30))
        assert boxes_to_mask(view["boxes"], 16, 16).all()
        assert view["segments"].all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SQUARE),
    st.tuples(st.integers(0, 12), st.integers(0, 9), st.integers(3, 12), st.integers(3, 9)),
    st.integers(0, 2**31),
)
def test_boxes_masks_and_pixels_move_together(augmentation: str, place: tuple[int, int, int, int], seed: int) -> None:
    x, y, width, height = place
    torch.manual_seed(seed)
    view = train_transform(64, augmentation, "inverse")(box_view((x, y, x + width, y + height), 20, 30))
    box = boxes_to_mask(view["boxes"], 64, 64)[0]
    segment = view["segments"][0] > 0
    white = view["image"][0] > 0.5
    # Each rounds the border in its own way, so they may differ there, by less than one pixel of the file on each side.
    border = dilated(box, 6) & dilated(~box, 6)
    for other in (segment, white):
        assert not ((box != other) & ~border).any()


def dilated(mask: Tensor, radius: int) -> Tensor:
    return torch.nn.functional.max_pool2d(mask[None].float(), 2 * radius + 1, 1, radius)[0] > 0


def test_flip_mirrors_half_of_the_images() -> None:
    view = box_view((0.0, 0.0, 15.0, 20.0), 20, 30)
    lefts = [bool(train_transform(8, "flip")(view)["boxes"][0, 0] == 0) for _ in range(100)]
    assert 30 < sum(lefts) < 70


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match=r"unknown evaluation\.crop 'centre'.*Did you mean 'center'"):
        eval_transform(8, crop="centre")
    with pytest.raises(ValueError, match=r"crop_flip.*Did you mean 'flip'"):
        train_transform(8, "flipp")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        eval_transform(8, "raw")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        to_display(torch.zeros(1, 3, 2, 2), "raw")


@pytest.mark.parametrize(
    ("size", "target"), [((9, 7), (4, 4)), ((5, 5), (8, 8)), ((40, 30), (6, 6)), ((6, 10), (3, 5))]
)
def test_segmentations_are_taken_at_the_centres_of_their_cells(size: tuple[int, int], target: tuple[int, int]) -> None:
    """Not at their corners, as torchvision takes masks: that moves them against the image and its boxes."""
    segments = torch.randint(0, 2, (2, *size), dtype=torch.uint8)
    resized = functional.resize(Segments(segments), list(target))
    assert isinstance(resized, Segments)
    for i in range(target[0]):
        for j in range(target[1]):
            row, column = int((i + 0.5) * size[0] / target[0]), int((j + 0.5) * size[1] / target[1])
            assert torch.equal(resized[:, i, j], segments[:, row, column])
    top, left, height, width = 1, 2, size[0] - 2, size[1] - 3
    cropped = functional.resized_crop(Segments(segments), top, left, height, width, list(target), antialias=True)
    again = functional.resize(Segments(segments[:, top : top + height, left : left + width]), list(target))
    assert torch.equal(cropped, again)
    assert isinstance(cropped, Segments)


def test_segmentations_keep_their_shape_where_the_short_side_is_resized() -> None:
    resized = functional.resize(Segments(torch.ones(1, 20, 31, dtype=torch.uint8)), [8])
    image = functional.resize(torch.ones(3, 20, 31, dtype=torch.uint8), [8])
    assert resized.shape[1:] == image.shape[1:]
    assert functional.resize(Segments(torch.zeros(0, 20, 31, dtype=torch.uint8)), [4, 4]).shape == (0, 4, 4)
