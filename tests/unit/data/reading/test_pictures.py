"""Pictures of every format, class maps and boxes, as they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidance.data import UnreadableError
from guidance.data.reading.decode import check_boxes, read_class_map_segments, read_image
from guidance.data.source import Record
from tests.support.data.pictures import Box, write_broken, write_picture

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
    assert found.boxes == [(0, 0, 5, 5), (2, 3, 30, 9), (2, 0, 9, 20), (2, 3, 30, 20), (0, 0, 30, 20)]
    assert (found.classes, found.skipped, found.clipped) == ([0, 1, 0, 0, 0], 0, 3)


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
    assert (found.boxes, found.classes, found.skipped) == ([(1, 1, 4, 4)], [2], 1)
