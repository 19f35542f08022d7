"""Image files to tensors, and the checks that need the decoded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from guidance.data.source import Record, fail_or_count

# Share of the longer side by which a box may stick out: annotators are that imprecise (a box of CUB does by 1.6 %), while
# boxes in the frame of another resolution stick out by far more.
BORDER_TOLERANCE = 0.02


class UnreadableError(ValueError):
    """An image or a segmentation that is missing, corrupt, or in an unknown format."""


def read_image(path: Path) -> Tensor:
    """Decode `path` to [3, H, W] uint8 RGB.

    Grey, palette, CMYK and 16-bit files are converted, transparency is dropped, and of an animation the first frame is
    taken. The EXIF orientation is ignored, because box annotations refer to the stored pixels.
    """
    try:
        image: Tensor = decode_image(str(path), mode=ImageReadMode.RGB)
    except RuntimeError:
        image = _read_with_pillow(path)  # formats that torchvision does not know, such as BMP and TIFF
    if image.dtype != torch.uint8:
        image = (image.to(torch.int32) // 257).to(torch.uint8)
    return image[0] if image.ndim == 4 else image


def _read_with_pillow(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except FileNotFoundError as error:
        raise UnreadableError(f"image {path} does not exist; check data.root and the split's list of files") from error
    except Exception as error:  # pillow raises OSError, SyntaxError, ValueError and others on broken files
        raise UnreadableError(f"image {path} cannot be read ({error}); replace or remove the file") from error


def read_class_map_segments(record: Record) -> Mapping[int, Tensor]:
    """Segmentations {class: [H, W] bool} from a class-index PNG as in VOC.

    A pixel holds class index + 1; 0 is background and 255 is void, and both belong to no class. Empty for a record
    without a segmentation file.
    """
    if record.segmentation is None:
        return {}
    with _open_segmentation(record.segmentation) as image:
        labels = torch.from_numpy(np.array(image))
    if labels.ndim != 2:
        raise UnreadableError(
            f"segmentation {record.segmentation} has {labels.ndim} dimensions, expected one channel of class indices; "
            "save it as a palette or grey PNG"
        )
    return {index: labels == index + 1 for index in record.classes}


def read_object_segments(record: Record, *, threshold: int) -> Mapping[int, Tensor]:
    """The segmentation {class: [H, W] bool} of a single-label record from a picture of its object: value >= `threshold`.

    The value of a coloured pixel is its largest channel; of a palette picture, the index. Empty for a record without a
    segmentation file.
    """
    if record.segmentation is None:
        return {}
    with _open_segmentation(record.segmentation) as image:
        plain = image.mode in ("P", "I", "I;16")
        values = np.array(image if plain else image.convert("RGB"))
    if values.ndim == 3:
        values = values.max(axis=2)
    return {record.classes[0]: torch.from_numpy(values >= threshold)}


@contextmanager
def _open_segmentation(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:
        raise UnreadableError(f"segmentation {path} cannot be read ({error})") from error


def check_boxes(record: Record, height: int, width: int, on_error: str) -> tuple[Tensor, Tensor, int]:
    """Boxes [n, 4] float32 and classes [n] long of `record`, checked against the size of its image.

    A box that sticks out by up to one pixel, or 2 % of the longer side, is clamped. One that has no area, or sticks out
    further, is an error, or with `on_error` "skip" is left out; the third value counts those.
    """
    boxes, classes, skipped = [], [], 0
    for box, index in zip(record.boxes, record.box_classes, strict=True):
        problem = _box_problem(box, height, width)
        if problem:
            skipped += fail_or_count(f"box {box} of image {record.path} {problem}; correct the annotation", on_error)
            continue
        x0, y0, x1, y1 = box
        boxes.append((max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))))
        classes.append(index)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(classes, dtype=torch.long), skipped


def _box_problem(box: tuple[float, float, float, float], height: int, width: int) -> str:
    x0, y0, x1, y1 = box
    outside = max(-x0, -y0, x1 - width, y1 - height)
    if outside > max(1.0, BORDER_TOLERANCE * max(height, width)):
        return f"sticks out of the image (width {width}, height {height}) by {outside:g} pixels"
    if not (min(x1, width) > max(x0, 0) and min(y1, height) > max(y0, 0)):
        return "has no area (expected x0 < x1 and y0 < y1)"
    return ""
