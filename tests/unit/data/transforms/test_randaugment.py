"""RandAugment against torchvision's, with boxes and segmentations."""

from __future__ import annotations

import pickle

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from guidance.data import train_transform
from guidance.data.transforms.randaugment import OPERATIONS, RandAugment
from guidance.regions import boxes_to_mask
from tests.support.data.pictures import box_view, picture


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_randaugment_gives_the_image_of_torchvision_for_the_same_seed(magnitude: int) -> None:
    """It draws in the same order, so the state of the generator is the same after it, too."""
    ours, theirs = RandAugment(3, magnitude), v2.RandAugment(3, magnitude)
    different = 0
    for seed in range(60):
        image = picture(seed=seed)
        torch.manual_seed(seed)
        expected = theirs(image)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        result = ours({"image": image})["image"]
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(result, expected)
        different += not torch.equal(result, image)
    assert different > (30 if magnitude else 10)


def test_each_operation_is_that_of_torchvision() -> None:
    """All of them at the magnitude of AIM; by name, because the draws above may miss one."""
    names = {name.replace("_", ""): operation for name, operation in OPERATIONS.items()}
    oracle = v2.RandAugment()
    table = oracle._AUGMENTATION_SPACE
    assert list(names) == [name.lower() for name in table]
    for name, (magnitudes, signed) in table.items():
        operation = names[name.lower()]
        assert operation.signed == signed
        known = magnitudes(31, 40, 56)
        assert (known is None) == (operation.magnitudes is None)
        if operation.magnitudes is not None:
            assert torch.equal(operation.magnitudes(40, 56), known.float())
        for sign in (1, -1) if signed else (1,):
            value = 0.0 if known is None else sign * float(known[9])
            expected = oracle._apply_image_or_video_transform(
                picture(), name, value, v2.InterpolationMode.NEAREST, oracle._fill
            )
            assert torch.equal(operation.apply({"image": picture()}, value)["image"], expected), name


GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_boxes_and_segments_move_with_the_pixels_of_each_operation(name: str, sign: int) -> None:
    operation = OPERATIONS[name]
    box = (20.0, 12.0, 44.0, 30.0)
    view = box_view(box, 48, 64)
    magnitude = 0.0 if operation.magnitudes is None else float(operation.magnitudes(48, 64)[9])
    magnitude = sign * magnitude if operation.signed else magnitude
    result = operation.apply(view, magnitude)
    if name not in GEOMETRIC:
        assert torch.equal(result["boxes"], view["boxes"])
        assert torch.equal(result["segments"], view["segments"])
        return
    assert torch.equal(result["segments"][0] > 0, result["image"][0] > 0)
    assert not torch.equal(result["segments"], view["segments"])
    # The box is the smallest upright one around the object: each side touches it, up to the rounding of pixels.
    rows, columns = (result["segments"][0] > 0).nonzero().unbind(1)
    tight = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    assert (result["boxes"][0] - tight).abs().max() <= 1.01, (result["boxes"], tight)
    assert (tight - torch.tensor(box)).abs().max() > 1.5


def test_a_translation_by_hand() -> None:
    """9 of 30 of 150/331 of 331 pixels is 45; what comes in is black and belongs to nothing, what leaves loses its box."""
    magnitude = float(OPERATIONS["translate_x"].magnitudes(20, 331)[9])  # type: ignore[misc]
    view = OPERATIONS["translate_x"].apply(box_view((0.0, 5.0, 30.0, 9.0), 20, 331), magnitude)
    assert view["boxes"].tolist() == [[45.0, 5.0, 75.0, 9.0]]
    assert view["segments"][0, 6].nonzero().flatten().tolist() == list(range(45, 75))
    full = box_view((0.0, 0.0, 331.0, 20.0), 20, 331)
    moved = OPERATIONS["translate_x"].apply(full, magnitude)
    assert not moved["image"][:, :, :45].any()
    assert not moved["segments"][:, :, :45].any()
    assert moved["boxes"].tolist() == [[45.0, 0.0, 331.0, 20.0]]
    gone = OPERATIONS["translate_x"].apply(box_view((0.0, 5.0, 30.0, 9.0), 20, 331), -magnitude)
    assert not boxes_to_mask(gone["boxes"], 20, 331).any()
    assert not gone["segments"].any()


def test_randaugment_as_a_training_transform() -> None:
    transform = pickle.loads(
        pickle.dumps(train_transform(32, "randaugment", randaugment_ops=2, randaugment_magnitude=30))
    )
    plain = train_transform(32, "flip")
    changed = mirrored = 0
    for seed in range(40):
        view = box_view((0.0, 0.0, 15.0, 20.0), 20, 30)
        torch.manual_seed(seed)
        result = transform(view)
        assert result["image"].shape == (3, 32, 32)
        assert result["image"].dtype == torch.float32
        assert result["image"].isfinite().all()
        outside = result["boxes"].clamp(0, 32) != result["boxes"]
        assert not outside.any()
        torch.manual_seed(seed)
        flipped = plain(view)  # the flip is drawn first
        changed += not torch.equal(result["segments"], flipped["segments"])
        mirrored += bool(flipped["boxes"][0, 0] > 0)
    assert 15 < changed < 40
    assert 8 < mirrored < 32
    assert "boxes" not in transform({"image": picture()})
    without = transform(
        view | {"boxes": tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(20, 30))}
    )
    assert without["boxes"].shape == (0, 4)


def test_randaugment_follows_its_settings() -> None:
    def drawn(**settings: int) -> int:
        torch.manual_seed(0)
        train_transform(16, "randaugment", **settings)({"image": picture()})  # type: ignore[arg-type]
        used = torch.get_rng_state()
        torch.manual_seed(0)
        torch.rand(1)  # the flip
        for operations in range(1, 8):
            RandAugment(1, 9)({"image": picture(16, 16)})
            if torch.equal(torch.get_rng_state(), used):
                return operations
        return 0

    assert (drawn(), drawn(randaugment_ops=1), drawn(randaugment_ops=5)) == (3, 1, 5)
    with pytest.raises(ValueError, match=r"data\.randaugment_ops .* got 0"):
        train_transform(16, "randaugment", randaugment_ops=0)
    for magnitude in (-1, 31):
        with pytest.raises(ValueError, match=rf"data\.randaugment_magnitude must be within 0 and 30; got {magnitude}"):
            train_transform(16, "randaugment", randaugment_magnitude=magnitude)
