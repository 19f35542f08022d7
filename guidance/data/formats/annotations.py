"""What annotations are between a reader and a writer of a format: plain records, and what could not be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guidance.data.reading.files import Box, Size


@dataclass(frozen=True)
class AnnotatedObject:
    """An object of an image, in pixels of the stored image (before EXIF turns it)."""

    label: str
    box: Box | None  # x0, y0, x1, y1, half-open; None: the class is in the image, but nobody says where
    segmentation: Any = None  # as in COCO's files: a list of polygons [x, y, x, y, ...], or a run-length code
    never: bool = False  # evidence for the class must not lie in the box


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its objects."""

    name: str  # its path below the folder of images, with /
    size: Size  # height, width of the stored pixels
    objects: tuple[AnnotatedObject, ...] = ()
    split: str = ""  # such as train; empty where nobody says


@dataclass(frozen=True)
class Annotations:
    """The annotations of a folder of images.

    `lost` counts what the format knew and these records do not, or know only roughly: a sentence, and where it was met.
    `faults` says what is wrong in the files; the objects or images that it speaks of are left out.
    """

    classes: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    lost: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...]


class Remarks:
    """Collects what a reader or a writer has to tell."""

    def __init__(self) -> None:
        self._lost: dict[str, list[str]] = {}
        self._faults: list[str] = []

    def lose(self, what: str, where: str) -> None:
        """Something is not kept, or only roughly: `what`, a phrase in the plural, and the image or file it was met in."""
        self._lost.setdefault(what, []).append(where)

    def fault(self, text: str) -> None:
        """Something is wrong, and left out."""
        self._faults.append(text)

    @property
    def lost(self) -> dict[str, tuple[str, ...]]:
        """What is not kept, and where each was met."""
        return {what: tuple(places) for what, places in self._lost.items()}

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a sentence each."""
        return tuple(self._faults)
