"""The images that annotations speak of: found however a tool calls them, and their objects brought into one frame."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Remarks
from guidance.data.formats.geometry import stored_box, stored_segmentation
from guidance.data.making.shapes import check_shape
from guidance.data.reading.decode import Header, read_header
from guidance.data.reading.files import Size, is_image
from guidance.regions import ROUNDING, box_problem, overhang

CLIPPED = "boxes that stuck out of their image, cut at its border"
TURNED = "objects drawn on a picture that EXIF turns, moved to its stored pixels"
UNLISTED = "images of the folder that no annotation names, left out"


class Pictures:
    """The images below a folder, and the names under which annotations may know them.

    Annotations call an image by a path of another machine, with \\ or /, by its file alone, or without a suffix. What is looked
    for is the image that shares the longest end of its path with that name; ValueError where none does, or several do.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; --images is the folder that holds the images")
        self.folder = folder
        self.names = tuple(sorted(_images_below(folder)))
        self._found: set[str] = set()
        self._ends: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            parts = PurePosixPath(name).parts
            for end in {parts, (*parts[:-1], PurePosixPath(name).stem)}:
                for start in range(len(end)):
                    self._ends.setdefault(end[start:], []).append(name)

    def find(self, called: str) -> str:
        """The name, below the folder, of the image that an annotation calls so."""
        parts = path_parts(called)
        for start in range(len(parts)):
            found = self._ends.get(parts[start:], [])
            exact = [name for name in found if PurePosixPath(name).parts == parts[start:]]
            if len(exact or found) > 1:
                raise ValueError(
                    f"image {called!r} may be {found[0]} or {found[1]} of {self.folder}; give the images different names"
                )
            if found:
                self._found.add((exact or found)[0])
                return (exact or found)[0]
        raise ValueError(f"image {called!r} is not in {self.folder}; add it, or correct its name")

    def tell_unnamed(self, remarks: Remarks) -> None:
        """Count the images that nothing was found to name."""
        for name in self.names:
            if name not in self._found:
                remarks.lose(UNLISTED, name)

    def header(self, name: str) -> Header:
        """Size and orientation of an image of the folder."""
        return read_header(self.folder / name)


def _images_below(folder: Path) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names if is_image(Path(name))]
    return found


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of a path of any system, without a drive, "." and ".."."""
    parts = re.split(r"[\\/]+", path.strip())
    return tuple(part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part))


def settle(
    name: str, objects: Sequence[AnnotatedObject], header: Header, told: Size | None, displayed: bool, remarks: Remarks
) -> AnnotatedImage:
    """The image with its objects in the frame of the stored pixels, checked and cut at the border.

    `told`: height and width as the annotation says. Where EXIF turns the image, they tell in which frame its objects are; where
    they do not, `displayed` says in which frame tools of the format work. Objects that lie outside, or have no area, are
    faults, and so is an image of another size than the annotation says, whose objects are left out.
    """
    stored, shown = header.size(displayed=False), header.size(displayed=True)
    if told is not None and told not in (stored, shown):
        remarks.fault(
            f"image {name} is annotated as {told[1]} x {told[0]} pixels, but it has {stored[1]} x {stored[0]}; "
            "annotate the image that is trained on"
        )
        return AnnotatedImage(name, stored)
    turned = header.orientation != 1 and (displayed if told is None or stored == shown else told == shown)
    kept = []
    for item in objects:
        if turned:
            remarks.lose(TURNED, name)
            item = _turn_back(item, header.orientation, stored)
        inside = _within(item, name, stored, remarks)
        if inside is not None:
            kept.append(inside)
    return AnnotatedImage(name, stored, tuple(kept))


def _turn_back(item: AnnotatedObject, orientation: int, size: Size) -> AnnotatedObject:
    box = None if item.box is None else stored_box(item.box, orientation, size)
    shape = None if item.segmentation is None else stored_segmentation(item.segmentation, orientation, size)
    return replace(item, box=box, segmentation=shape)


def _within(item: AnnotatedObject, name: str, size: Size, remarks: Remarks) -> AnnotatedObject | None:
    """The object with its box cut at the border; None, with a fault, where there is nothing of it."""
    height, width = size
    try:
        if item.segmentation is not None:
            check_shape(item.segmentation, size)
    except ValueError as error:
        remarks.fault(f"an object {item.label!r} of image {name} {error}; correct the annotation")
        return None
    if item.box is None:
        return item
    problem = box_problem(item.box, height, width)
    if problem:
        remarks.fault(f"box {item.box} of {item.label!r} of image {name} {problem}; correct the annotation")
        return None
    x0, y0, x1, y1 = item.box
    if overhang(item.box, height, width) > ROUNDING:
        remarks.lose(CLIPPED, name)
    return replace(item, box=(max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))))
