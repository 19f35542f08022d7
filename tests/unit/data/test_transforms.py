"""Decoding and transforms: any format becomes the same uint8 RGB, and boxes and masks move with the pixels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from guidance.data import AUGMENTATIONS, CROPS, UnreadableError, eval_transform, to_display, train_transform
from guidance.data.randaugment import OPERATIONS, RandAugment
from guidance.data.reading.decode import check_boxes, read_class_map_segments, read_image
from guidance.data.source import Record
from guidance.data.transforms import Segments, ShiftedCrop, View
from guidance.regions import boxes_to_mask
from tests.support.pictures import Box, write_broken, write_picture

SQUARE = sorted(set(AUGMENTATIONS) - {"randaugment"})  # these keep rectangles upright, and colours as they are
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

FORMATS: dict[str, Callable[[Image.Image, Path], None]] = {
    "rgb.png": lambda image, path: image.save(path),
    "grey.png": lambda image, path: image.convert("L").save(path),
    "palette.png": lambda image, path: image.convert("P").save(path),
    "transparent.png": lambda image, path: image.convert("RGBA").save(path),
    "rgb.jpg": lambda image, path: image.save(path),
    "grey.jpg": lambda image, path: image.convert("L").save(path),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path),
    "bitmap.bmp": lambda image, path: image.save(path),
    "tiff.tiff": lambda image, path: image.save(path),
}


def box_view(box: Box, height: int, width: int) -> View:
    """A view whose image and segment both are white inside `box` (integer corners)."""
    inside = boxes_to_mask(torch.tensor([box]), height, width).to(torch.uint8)
    return {
        "image": tv_tensors.Image(inside.repeat(3, 1, 1) * 255),
        "boxes": tv_tensors.BoundingBoxes(torch.tensor([box]), format="XYXY", canvas_size=(height, width)),
        "segments": tv_tensors.Mask(inside),
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_as_pillow_reads_it(tmp_path: Path, name: str) -> None:
    FORMATS[name](Image.fromarray(PIXELS), tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == torch.uint8
    expected = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_16_bit_png_is_scaled(tmp_path: Path) -> None:
    deep = PIXELS[..., 0].astype(np.uint16) * 256 + 99
    Image.fromarray(deep).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.dtype == torch.uint8
    assert np.array_equal(image[1].numpy(), deep // 257)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "two.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees to display
    Image.fromarray(PIXELS).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 20, 30)


@pytest.mark.parametrize("name", ["absent.png", "empty.png", "text.jpg", "half.png", "half.jpg", "folder.png"])
def test_an_unreadable_image_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder.png":
        path.mkdir()
    elif name == "half.png":
        write_broken(path)
    elif name == "half.jpg":
        Image.fromarray(PIXELS).save(path)
        path.write_bytes(path.read_bytes()[:400])
    elif name != "absent.png":
        path.write_text("" if name == "empty.png" else "no picture")
    with pytest.raises(UnreadableError, match=name):
        read_image(path)


def test_class_maps_leave_out_background_and_void(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255], [3, 3, 1]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "map.png")
    record = Record(tmp_path / "x.jpg", (0, 2, 5), segmentation=tmp_path / "map.png")
    found = read_class_map_segments(record)
    assert {k: mask.int().tolist() for k, mask in found.items()} == {
        0: [[0, 1, 0], [0, 0, 1]],
        2: [[0, 0, 0], [1, 1, 0]],
        5: [[0, 0, 0], [0, 0, 0]],
    }
    assert read_class_map_segments(record._replace(segmentation=None)) == {}


@pytest.mark.parametrize(("name", "message"), [("absent.png", "absent.png"), ("colour.png", "one channel")])
def test_faulty_class_maps_are_named(tmp_path: Path, name: str, message: str) -> None:
    write_picture(tmp_path / "colour.png")
    with pytest.raises(UnreadableError, match=message):
        read_class_map_segments(Record(tmp_path / "x.jpg", (0,), segmentation=tmp_path / name))


def test_boxes_that_stick_out_are_clipped_and_counted() -> None:
    """As in published sets, by however much; what conversions round is not worth a count."""
    boxes = ((-1.5, 0, 5, 5), (2, 3, 99, 9), (2, -3000, 9, 20.005), (2, 3, 30.005, 20), (0, 0, 30, 20))
    found = check_boxes(Record(Path("x.png"), (0,), boxes, (0, 1, 0, 0, 0)), 20, 30, "raise")
    assert found.boxes.tolist() == [[0, 0, 5, 5], [2, 3, 30, 9], [2, 0, 9, 20], [2, 3, 30, 20], [0, 0, 30, 20]]
    assert (found.classes.tolist(), found.skipped, found.clipped) == ([0, 1, 0, 0, 0], 0, 3)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((3, 3, 3, 9), "no area"),
        ((9, 3, 3, 9), "no area"),
        ((float("nan"), 3, 8, 9), "no area"),
        ((30, 3, 30.5, 9), r"outside of the image \(width 30, height 20\)"),
        ((-8, 3, 0, 9), "outside of the image"),
        ((0, 20, 5, 40), "outside of the image"),
        ((0, -7, 5, -1), "outside of the image"),
    ],
)
def test_a_faulty_box_is_named_or_counted(box: Box, message: str) -> None:
    record = Record(Path("some/x.png"), (0, 2), (box, (1, 1, 4, 4)), (0, 2))
    with pytest.raises(ValueError, match=rf"some/x\.png.*{message}"):
        check_boxes(record, 20, 30, "raise")
    found = check_boxes(record, 20, 30, "skip")
    assert (found.boxes.tolist(), found.classes.tolist(), found.skipped) == ([[1, 1, 4, 4]], [2], 1)


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


# RandAugment


def picture(height: int = 40, width: int = 56, seed: int = 0) -> tv_tensors.Image:
    """Smooth colours: at sharp edges every rounding would show."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return tv_tensors.Image((smooth[0] * 255).to(torch.uint8))


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


@pytest.mark.parametrize("crop", CROPS)
def test_crops_are_picklable_and_take_images_alone(crop: str) -> None:
    transform = pickle.loads(pickle.dumps(eval_transform(16, "inverse", crop=crop)))
    assert transform({"image": picture()})["image"].shape == (6, 16, 16)
    assert set(transform({"image": picture()})) == {"image"}
    if crop == "none":
        assert torch.equal(
            transform({"image": picture()})["image"], eval_transform(16, "inverse")({"image": picture()})["image"]
        )


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match=r"unknown evaluation\.crop 'centre'.*Did you mean 'center'"):
        eval_transform(8, crop="centre")
    with pytest.raises(ValueError, match=r"crop_flip.*Did you mean 'flip'"):
        train_transform(8, "flipp")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        eval_transform(8, "raw")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        to_display(torch.zeros(1, 3, 2, 2), "raw")


# ------------------------------------------------------------------------------------------------- segmentations


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
