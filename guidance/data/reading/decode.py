"""Image files to tensors, and the checks that need the decoded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from guidance.data.reading.files import Size, fault_of_file
from guidance.data.source import Record, fail_or_count
from guidance.regions import ROUNDING, box_problem, overhang

ORIENTATION = 0x0112  # EXIF tag
SAMPLE_FORMAT, BITS = 339, 258  # TIFF tags: 1 unsigned, 2 signed, 3 float; bits per channel
# EXIF orientation -> what shows an image [C, H, W] upright.
UPRIGHT: Mapping[int, Callable[[Tensor], Tensor]] = {
    2: lambda x: x.flip(2),
    3: lambda x: x.flip(1, 2),
    4: lambda x: x.flip(1),
    5: lambda x: x.transpose(1, 2),
    6: lambda x: x.transpose(1, 2).flip(2),
    7: lambda x: x.transpose(1, 2).flip(1, 2),
    8: lambda x: x.transpose(1, 2).flip(1),
}
TURNED = frozenset((5, 6, 7, 8))  # those that swap height and width


class UnreadableError(ValueError):
    """An image or a segmentation that is missing, corrupt, or in an unknown format."""


class Header(NamedTuple):
    """What the header of an image file says; height and width are those of the stored pixels."""

    height: int
    width: int
    orientation: int  # of EXIF; 1 for an upright image, and where there is none

    def size(self, *, displayed: bool) -> Size:
        """(height, width) of what `read_image` returns."""
        turned = displayed and self.orientation in TURNED
        return (self.width, self.height) if turned else (self.height, self.width)


def read_header(path: Path, what: str = "image") -> Header:
    """Size and orientation of an image, without its pixels. UnreadableError where it is missing or no image."""
    with _open(path, what) as image:
        tags = (
            getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
        )  # else of the image that Pillow would show
        return Header(tags.get(257, image.height), tags.get(256, image.width), _orientation(image))


def read_image(path: Path, *, displayed: bool = False) -> Tensor:
    """Decode `path` to [3, H, W] uint8 RGB.

    Grey, palette, CMYK and 16-bit files are converted by the range of their type, transparency is dropped, and of an
    animation the first frame is taken. Types without a range of their own (32-bit integers, floats) are an
    UnreadableError: to guess it would clip or darken them. Stored pixels are taken, because published annotations refer to
    them; `displayed` turns them as the EXIF orientation says, for annotations that were made on the displayed picture.
    """
    fault = fault_of_file(path)
    if fault:
        raise UnreadableError(f"image {path} {fault}; check data.root and the split's list of files")
    try:
        image: Tensor = decode_image(str(path), mode=ImageReadMode.RGB)
    except RuntimeError:
        image = _read_with_pillow(path)  # formats that torchvision does not know, such as BMP and TIFF
    if image.dtype != torch.uint8:
        image = (image.to(torch.int32) // 257).to(torch.uint8)
    image = image[0] if image.ndim == 4 else image
    turn = UPRIGHT.get(read_header(path).orientation) if displayed else None
    return turn(image).contiguous() if turn else image


@contextmanager
def _open(path: Path, what: str = "image") -> Iterator[Image.Image]:
    """The picture in a file; whatever Pillow raises inside the block is an UnreadableError."""
    fault = fault_of_file(path)
    if fault:
        raise UnreadableError(f"{what} {path} {fault}; check data.root and the split's list of files")
    try:
        with Image.open(path) as image:
            yield image
    except UnreadableError:
        raise
    except Exception as error:  # pillow raises OSError, SyntaxError, ValueError and others on broken files
        raise UnreadableError(f"{what} {path} cannot be read ({error}); replace or remove the file") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # else Pillow would decode all pixels to look behind them
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing, and is no reason to refuse the pixels
        return 1
    return found if found in UPRIGHT else 1


def _read_with_pillow(path: Path) -> Tensor:
    with _open(path) as image:
        orientation = _orientation(image)
        pixels = pixels_of(image, f"image {path}")
        # Pillow turns a TIFF when it loads the pixels: what it should not, and not always as it should (13.0).
        if orientation != 1 and image.format == "TIFF":
            if orientation in TURNED:
                raise UnreadableError(
                    f"image {path} is a TIFF that lies on its side (orientation {orientation}); save it upright"
                )
            pixels = UPRIGHT[orientation](pixels)
        return pixels


def pixels_of(image: Image.Image, name: str) -> Tensor:
    """A Pillow image as [3, H, W] uint8 RGB, by the rules of `read_image`. UnreadableError, by its `name`, for others."""
    return torch.from_numpy(np.array(_to_rgb(image, name))).permute(2, 0, 1)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    tags = dict(getattr(image, "tag_v2", {}))
    signed = 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1))
    if signed and max(np.atleast_1d(tags.get(BITS, 1))) < 32:  # Pillow reads some as unsigned, others as 32 bits
        raise UnreadableError(f"{name} holds signed integers; save it with 8 or 16 unsigned bits per channel")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow's own conversion clips at 255. TIFF may use 12 of the bits; Pillow scales PPM to 16.
        highest = 2 ** tags.get(BITS, (16,))[0] - 1
        grey = np.array(image).astype(np.int64)
        if tags.get(262) == 0:  # white is zero; with 8 bits Pillow sees to it
            grey = highest - grey
        grey = grey * 255 // highest
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "integers of 32 bits" if image.mode == "I" else "floats"
        raise UnreadableError(
            f"{name} holds {kind}, whose range it does not tell; save it with 8 or 16 bits per channel"
        )
    if image.mode in ("La", "RGBa"):  # premultiplied with the transparency
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def read_class_map_segments(record: Record) -> Mapping[int, Tensor]:
    """Segmentations {class: [H, W] bool} from a class-index PNG as in VOC.

    A pixel holds class index + 1; 0 is background and 255 is void, and both belong to no class. Empty for a record
    without a segmentation file.
    """
    if record.segmentation is None:
        return {}
    with _open(record.segmentation, "segmentation") as image:
        labels = np.array(image)
    if labels.ndim != 2:
        raise UnreadableError(
            f"segmentation {record.segmentation} has {labels.ndim} dimensions, expected one channel of class indices; "
            "save it as a palette or grey PNG"
        )
    return {index: torch.from_numpy(labels == index + 1) for index in record.classes}


def read_object_segments(record: Record, *, threshold: int) -> Mapping[int, Tensor]:
    """The segmentation {class: [H, W] bool} of a single-label record from a picture of its object: value >= `threshold`.

    The value of a coloured pixel is its largest channel; of a palette picture, the index. Empty for a record without a
    segmentation file.
    """
    if record.segmentation is None:
        return {}
    with _open(record.segmentation, "segmentation") as image:
        if image.mode == "F":
            raise ValueError("it holds floats; save it with 8 bits per pixel")
        plain = image.mode == "P" or image.mode.startswith("I")
        values = np.array(image if plain else image.convert("RGB"))
    if values.ndim == 3:
        values = values.max(axis=2)
    return {record.classes[0]: torch.from_numpy(values >= threshold)}


class CheckedBoxes(NamedTuple):
    """The usable boxes of an image, n of them, within it."""

    boxes: list[tuple[float, float, float, float]]
    classes: list[int]
    skipped: int  # faulty ones that were left out
    clipped: int  # of the n, those that stuck out of the image


def check_boxes(record: Record, height: int, width: int, on_error: str) -> CheckedBoxes:
    """The boxes of `record`, checked against the size of its image.

    A box that sticks out is clipped and counted: published boxes do. One that is empty or inverted, or lies wholly outside,
    is an error, or with `on_error` "skip" is left out and counted.
    """
    boxes: list[tuple[float, float, float, float]] = []
    classes, skipped, clipped = [], 0, 0
    for box, index in zip(record.boxes, record.box_classes, strict=True):
        problem = box_problem(box, height, width)
        if problem:
            skipped += fail_or_count(f"box {box} of image {record.path} {problem}; correct the annotation", on_error)
            continue
        x0, y0, x1, y1 = box
        clipped += overhang(box, height, width) > ROUNDING
        boxes.append((max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))))
        classes.append(index)
    return CheckedBoxes(boxes, classes, skipped, clipped)
