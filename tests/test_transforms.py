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

from guidance.data import AUGMENTATIONS, UnreadableError, eval_transform, to_display, train_transform
from guidance.data.decode import check_boxes, read_class_map_segments, read_image
from guidance.data.source import Record
from guidance.data.transforms import View
from guidance.regions import boxes_to_mask
from tests.pictures import Box, write_broken, write_picture

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


@pytest.mark.parametrize(("scale", "slack"), [(1, 1.0), (20, 12.0)])  # 30 and 600 pixels wide
def test_a_box_may_stick_out_by_one_pixel_or_two_per_cent(scale: int, slack: float) -> None:
    height, width = 20 * scale, 30 * scale
    record = Record(Path("x.png"), (0, 1), ((-slack, 0, 5, 5), (2, 3, width + slack, height + slack)), (0, 1))
    boxes, classes, skipped = check_boxes(record, height, width, "raise")
    assert boxes.tolist() == [[0, 0, 5, 5], [2, 3, width, height]]
    assert (classes.tolist(), skipped) == ([0, 1], 0)
    record = record._replace(boxes=((-slack - 0.1, 0, 5, 5), (2, 3, 5, 5)))
    assert check_boxes(record, height, width, "skip")[2] == 1


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((3, 3, 3, 9), "no area"),
        ((9, 3, 3, 9), "no area"),
        ((30, 3, 30.5, 9), "no area"),
        ((float("nan"), 3, 8, 9), "no area"),
        ((-1.5, 0, 5, 5), "sticks out .* by 1.5 pixels"),
        ((0, 0, 5, 40), "sticks out .* by 20 pixels"),
    ],
)
def test_a_faulty_box_is_named_or_counted(box: Box, message: str) -> None:
    record = Record(Path("some/x.png"), (0, 2), (box, (1, 1, 4, 4)), (0, 2))
    with pytest.raises(ValueError, match=rf"some/x\.png.*{message}"):
        check_boxes(record, 20, 30, "raise")
    boxes, classes, skipped = check_boxes(record, 20, 30, "skip")
    assert (boxes.tolist(), classes.tolist(), skipped) == ([[1, 1, 4, 4]], [2], 1)


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


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_transforms_are_picklable_and_keep_a_full_box_full(augmentation: str) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(16, augmentation)))
    for _ in range(20):
        view = transform(box_view((0.0, 0.0, 30.0, 20.0), 20, 30))
        assert boxes_to_mask(view["boxes"], 16, 16).all()
        assert view["segments"].all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(AUGMENTATIONS)),
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
    with pytest.raises(ValueError, match=r"crop_flip.*Did you mean 'flip'"):
        train_transform(8, "flipp")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        eval_transform(8, "raw")
    with pytest.raises(ValueError, match="known: inverse, normalized"):
        to_display(torch.zeros(1, 3, 2, 2), "raw")
