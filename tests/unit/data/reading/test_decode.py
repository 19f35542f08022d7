"""Pixels of every type by the range of the type, or refused by name; orientation; what is no file; what is damaged."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from guidance.data.reading.complaints import complaint, listen
from guidance.data.reading.decode import UPRIGHT, UnreadableError, read_header, read_image, read_object_segments
from guidance.data.source import Record
from tests.support.data.pictures import write_picture
from tests.support.processes import run_processes

RAMP = np.tile(np.linspace(0, 1, 256), (4, 1))  # every shade once, in each of four rows
GREY = (RAMP * 255).round().astype(np.uint8)
REFUSED = {"I": "integers of 32 bits", "F": "floats"}
TURNED = np.arange(24, dtype=np.uint8).reshape(4, 6).repeat(8, 0).repeat(8, 1) * 10  # in the blocks of a JPEG


def in_mode(mode: str) -> Image.Image:
    """The ramp from black to white as a picture of that mode of Pillow."""
    grey = Image.fromarray(GREY)
    if mode.startswith("I;16"):
        pixels = (RAMP * 65535).round().astype(">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, (256, 4), pixels.tobytes())
    if mode == "I":
        return Image.fromarray((RAMP * 2**30).astype(np.int32))
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        found = ImageCms.profileToProfile(grey.convert("RGB"), *profiles, outputMode="LAB")
        assert found is not None
        return found
    first = {"La": "LA", "RGBa": "RGBA", "PA": "P", "1": "L"}.get(mode, "RGB" if mode not in ("L", "LA", "P") else "L")
    return grey.convert(first).convert(mode, dither=Image.Dither.NONE)


@pytest.mark.parametrize("mode", sorted(Image.MODES))
def test_every_mode_of_pillow_is_converted_by_its_range_or_refused(tmp_path: Path, mode: str) -> None:
    """TIFF holds nearly all of them; what no format holds cannot come from a file."""
    image = in_mode(mode)
    assert image.mode == mode
    try:
        image.save(tmp_path / "ramp.tiff")
    except OSError:
        assert mode in ("HSV", "I;16N", "La", "RGBa")
        return
    if mode in REFUSED:
        with pytest.raises(UnreadableError, match=f"ramp.tiff holds {REFUSED[mode]}.*save it with 8 or 16 bits"):
            read_image(tmp_path / "ramp.tiff")
        return
    found = read_image(tmp_path / "ramp.tiff").numpy()
    expected = np.where(GREY < 128, 0, 255) if mode == "1" else GREY
    assert found.dtype == np.uint8
    assert found.shape == (3, 4, 256)
    assert np.abs(found.astype(int) - expected).max() <= (2 if mode in ("LAB", "YCbCr", "CMYK") else 0)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_integers_are_refused(tmp_path: Path, dtype: type) -> None:
    """Pillow reads the negative ones as dark grey, or as 32 bits."""
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    bits = pixels.itemsize * 8
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 339)
    entries = zip(tags, (4, 3, bits, 1, 1, 8, 1, 3, pixels.nbytes, 2), strict=True)
    start = 8 + pixels.nbytes
    table = b"".join(struct.pack("<HHII", tag, 3 if tag != 273 else 4, 1, value) for tag, value in entries)
    header = struct.pack("<2sHI", b"II", 42, start)
    path = tmp_path / "signed.tiff"
    path.write_bytes(header + pixels.tobytes() + struct.pack("<H", len(tags)) + table + bytes(4))
    with pytest.raises(UnreadableError, match=r"signed\.tiff holds signed integers; save it with"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tiff", "jp2", "ppm"])
def test_16_bits_are_read_alike_from_every_format(tmp_path: Path, suffix: str) -> None:
    path, pixels = tmp_path / f"deep.{suffix}", (RAMP * 65535).round().astype(np.uint16)
    if suffix == "ppm":
        path.write_bytes(b"P5 256 4 65535\n" + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(path)
    assert np.array_equal(read_image(path).numpy(), np.tile(GREY, (3, 1, 1)))


@pytest.mark.parametrize(
    ("bits", "white_is_zero", "content"),
    [(12, 0, b"\x00\x0f\xff\0"), (16, 0, b"\0\0\xff\xff"), (16, 1, b"\xff\xff\0\0")],
)
def test_a_tiff_is_read_by_its_own_range(tmp_path: Path, bits: int, white_is_zero: int, content: bytes) -> None:
    """Two pixels, black and white; of 12 bits, in three bytes, Pillow makes 0 and 4095."""
    tags = (
        (256, 3, 2), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, 1 - white_is_zero), (273, 4, 8), (277, 3, 1),
        (278, 3, 1), (279, 4, 2 * bits // 8),
    )  # fmt: skip
    body = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags
    )
    (tmp_path / "x.tiff").write_bytes(b"II*\0" + struct.pack("<I", 12) + content + body + b"\0" * 4)
    assert read_image(tmp_path / "x.tiff")[0].tolist() == [[0, 255]]


def test_a_mask_of_floats_is_refused_and_one_of_16_bits_is_not(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.array([[0, 1, 40000]], dtype=np.uint16)).save(tmp_path / "deep.png")
    record = Record(Path("x.jpg"), (0,), segmentation=tmp_path / "float.tiff")
    with pytest.raises(UnreadableError, match=r"segmentation .*float\.tiff cannot be read .*floats"):
        read_object_segments(record, threshold=1)
    deep = record._replace(segmentation=tmp_path / "deep.png")
    assert read_object_segments(deep, threshold=1)[0].tolist() == [[False, True, True]]


def write_turned(path: Path, orientation: int) -> NDArray[np.uint8]:
    """A grey picture with that EXIF orientation; returns how viewers show it."""
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(TURNED)
    image.save(path, exif=exif, quality=100)
    with Image.open(path) as stored:
        return np.asarray(ImageOps.exif_transpose(stored))


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("orientation", [1, *UPRIGHT])
def test_stored_pixels_are_read_unless_displayed_ones_are_asked_for(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    path = tmp_path / f"turned.{suffix}"
    shown = write_turned(path, orientation)
    if suffix == "tiff" and orientation > 4:
        with pytest.raises(
            UnreadableError, match=rf"turned\.tiff is a TIFF that lies on its side .orientation {orientation}"
        ):
            read_image(path)
        return
    stored, displayed = read_image(path), read_image(path, displayed=True)
    header = read_header(path)
    assert header.orientation == orientation
    assert tuple(stored.shape[1:]) == header.size(displayed=False) == TURNED.shape
    assert tuple(displayed.shape[1:]) == header.size(displayed=True) == shown.shape[:2]
    tolerance = {"jpg": 2, "webp": 16}.get(suffix, 0)
    assert np.abs(stored[0].numpy().astype(int) - TURNED).max() <= tolerance
    assert np.abs(displayed[0].numpy().astype(int) - (shown if shown.ndim == 2 else shown[..., 0])).max() <= tolerance


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    """A reader of a pipe would wait for a writer for ever; a loop of links has no end."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, message in (
        ("pipe.jpg", "is no file but a folder, a pipe"), ("folder.jpg", "is no file but a folder"),
        ("loop.jpg", "cannot be read .*symbolic links"), ("gone.jpg", "does not exist"),
        ("x" * 300 + ".jpg", "cannot be read .*name too long"), ("nul\0.jpg", "cannot be read"),
    ):  # fmt: skip
        for read in (read_image, read_header):
            with pytest.raises(UnreadableError, match=f"(?i)image .*{message}"):
                read(tmp_path / name)


def test_a_damaged_exif_block_does_not_hide_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(TURNED).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 20)
    assert read_header(path)[:] == (32, 48, 1)
    assert read_image(path, displayed=True).shape == (3, 32, 48)


def test_damaged_bytes_that_are_decoded_all_the_same_are_found(tmp_path: Path) -> None:
    """libjpeg fills what it has lost with grey and only prints a warning; the image beside it is not blamed."""
    paths = [tmp_path / f"{name}.jpg" for name in ("first", "damaged", "last")]
    for path in paths:
        Image.fromarray(np.tile(GREY, (30, 1))).save(path, quality=95)
    content = bytearray(paths[1].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = np.random.default_rng(0).integers(0, 255, 40, dtype=np.uint8).tobytes()
    paths[1].write_bytes(content)
    assert read_image(paths[1]).shape == (3, 120, 256)
    (damaged,) = [path for path in paths if complaint(path)]
    assert damaged == paths[1]
    assert complaint(damaged).startswith("Corrupt JPEG data")
    noise, shorter = tmp_path / "noise.jpg", tmp_path / "shorter.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)).save(noise)
    content = bytearray(noise.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(
        200
    )  # codes of many pixels: the decoder is done too early
    shorter.write_bytes(content)
    assert "extraneous bytes before marker 0xd9" in complaint(shorter)
    assert (read_image(shorter).int() - read_image(noise).int()).abs().float().mean() > 10
    assert complaint(write_picture(tmp_path / "x.png")) == complaint(tmp_path / "absent.jpg") == ""
    assert torch.equal(read_image(paths[0]), read_image(paths[2]))


def test_what_others_print_meanwhile_is_not_swallowed(capfd: pytest.CaptureFixture[str]) -> None:
    def run(number: int) -> int:
        os.write(2, b"Premature end of JPEG file\nlibpng warning: iCCP\n")
        print("a line", file=sys.stderr)
        return number + 1

    assert listen(run, 4) == (5, True)
    assert sorted(capfd.readouterr().err.splitlines()) == ["a line", "libpng warning: iCCP"]
    assert listen(len, "abc") == (3, False)


def _without_stderr(path: Path) -> list[Any]:
    os.close(2)
    return [listen(len, "ab"), complaint(path)]


def test_a_closed_stderr_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "x.png")
    assert run_processes(1, tmp_path / "out", _without_stderr, path) == [[(2, False), ""]]
