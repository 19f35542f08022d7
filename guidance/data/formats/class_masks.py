"""Masks as PNG files with a class for each value: grey, or the index of a palette."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.geometry import encode_mask, mask_box
from guidance.data.formats.pictures import Pictures, settle
from guidance.data.reading.decode import UnreadableError
from guidance.data.reading.files import as_integer, fault_of_file, read_text

BACKGROUND, IGNORED = 0, 255  # unless the list of classes names them
CLASSES = "classes.txt"


def read_class_masks(source: Path, images: Path) -> Annotations:
    """Masks <image>.png below `source`, and its classes.txt with a value and its class on each line, such as "1 cat".

    Each connected part of a class (also over corners) is an object, with its box and its mask. The value 0 is background, and
    255 is ignored and counted, unless classes.txt names them; another value that it does not name is a fault.
    """
    pictures, remarks = Pictures(images), Remarks()
    classes = _read_classes(source / CLASSES)
    found: dict[str, AnnotatedImage] = {}
    files = sorted(path for path in source.rglob("*.png") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{source} holds no .png; --from masks expects a mask of the name of each image there")
    for path in files:
        try:
            name = pictures.find(path.relative_to(source).with_suffix("").as_posix())
            values = _read_values(path)
            objects = list(_objects(values, classes, name, path, remarks))
            image = settle(name, objects, pictures.header(name), (values.shape[0], values.shape[1]), False, remarks)
        except ValueError as error:
            remarks.fault(f"mask {path}: {error}")
            continue
        if name in found:
            remarks.fault(f"image {name} has two masks; remove {path} or the other")
        found.setdefault(name, image)
    pictures.tell_unnamed(remarks)
    return Annotations(tuple(classes.values()), tuple(found.values()), remarks.lost, remarks.faults)


def _read_classes(path: Path) -> dict[int, str]:
    expected = "expected a value and its class on each line, such as '1 cat'"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; {expected}")
    classes: dict[int, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        value, _, name = line.strip().partition(" ")
        if not value:
            continue
        try:
            key = as_integer(value)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is {line!r}; {expected}") from error
        if not name.strip() or key in classes or name.strip() in classes.values():
            raise ValueError(
                f"line {number} of {path} is {line!r}, without a class or with one named before; {expected}"
            )
        classes[key] = name.strip()
    if classes.get(BACKGROUND, "background").lower() in ("background", "_background_"):
        classes.pop(BACKGROUND, None)
    if not classes:
        raise ValueError(f"{path} names no class; {expected}")
    return classes


def _read_values(path: Path) -> NDArray[np.int64]:
    """The values [H, W] of a grey or palette picture."""
    fault = fault_of_file(path)
    if fault:
        raise UnreadableError(fault)
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise ValueError(
                    f"it is a picture of the mode {image.mode}; save it grey or with a palette, a value per class"
                )
            return np.array(image).astype(np.int64)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"it cannot be read ({error}); replace it") from error


def _objects(
    values: NDArray[np.int64], classes: dict[int, str], name: str, path: Path, remarks: Remarks
) -> Iterator[AnnotatedObject]:
    from scipy import ndimage

    for value in np.unique(values).tolist():
        if value in classes:
            parts, count = ndimage.label(values == value, structure=np.ones((3, 3)))
            for part in range(1, count + 1):
                mask = parts == part
                yield AnnotatedObject(classes[value], mask_box(mask), encode_mask(mask))
        elif value == IGNORED:
            remarks.lose("masks with pixels of the ignored value 255, which are background here", name)
        elif value != BACKGROUND:
            remarks.fault(f"mask {path} has the value {value}, which {CLASSES} does not name")
