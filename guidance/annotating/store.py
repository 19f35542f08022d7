"""The images of a set and their boxes, for many readers and writers at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.annotating.document import Document, EditedBox
from guidance.annotating.layouts import Place
from guidance.data.reading.decode import read_header
from guidance.data.reading.files import Size, as_box, is_image, is_integer
from guidance.data.sets.custom_files import read_groups
from guidance.regions import box_problem


class StaleError(ValueError):
    """The boxes of an image have changed since they were read."""


@dataclass(frozen=True)
class Entry:
    """An image of the set."""

    name: str  # its path below the folder of images
    document: int  # which file lists it, or shall
    group: str  # empty where the set has no groups


@dataclass(frozen=True)
class ImageState:
    """What is known of an image at a moment."""

    boxes: tuple[EditedBox, ...]
    labels: tuple[int, ...]  # classes that it shows
    revision: str


class Store:
    """The images by number, and their boxes. Every method may be called from any thread.

    Only images whose file lies in the folder of images count, wherever a link in it may point to. `left_out` says which were
    named, or found, and do not. `displayed`: boxes refer to the image as EXIF turns it.
    """

    def __init__(self, place: Place, *, classes: Sequence[str] = (), displayed: bool = False) -> None:
        self._lock = threading.RLock()
        self._folder, self.displayed = place.images.resolve(), displayed
        self._documents = [Document(path) for path in place.files]
        self._add_classes(classes)
        self.classes = self._documents[0].classes
        groups = read_groups(place.root)
        names = {name: i for i, each in reversed(list(enumerate(self._documents))) for name in each.images}
        names |= {name: 0 for name in sorted(_images_below(self._folder)) if name not in names}
        self.left_out = tuple(name for name in names if self._safe(name) is None)
        group_of = {name: groups.names[number] for name, number in groups.of_image.items()}
        self.entries = tuple(
            Entry(name, number, group_of.get(name, "")) for name, number in names.items() if name not in self.left_out
        )
        if not self.entries:
            raise ValueError(f"{self._folder} holds no image to annotate")

    def _add_classes(self, classes: Sequence[str]) -> None:
        known = self._documents[0].classes
        for document in self._documents:
            if document.classes != known:
                raise ValueError(f"{document.path} and {self._documents[0].path} list different categories")
        new = [name for name in dict.fromkeys(classes) if name not in known]
        for document in self._documents if new else ():
            document.add_classes(new)
            document.write()

    def _safe(self, name: str) -> Path | None:
        """The file of an image, without links; None where it is not a file below the folder of images."""
        try:
            path = (self._folder / name).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # missing, a null byte, a loop of links
            return None
        return path if path.is_relative_to(self._folder) and path.is_file() else None

    def path(self, number: int) -> Path:
        """The file of an image. KeyError where there is no such image, or its file is not below the folder any more."""
        path = self._safe(self.entries[number].name) if 0 <= number < len(self.entries) else None
        if path is None:
            raise KeyError(number)
        return path

    def size(self, number: int) -> Size:
        """(height, width) of an image in the frame of its boxes."""
        return read_header(self.path(number)).size(displayed=self.displayed)

    def state(self, number: int) -> ImageState:
        """What is known of an image now. KeyError where there is no such image."""
        if not 0 <= number < len(self.entries):
            raise KeyError(number)
        entry = self.entries[number]
        with self._lock:
            document = self._documents[entry.document]
            document.refresh()
            return self._state(document, entry.name)

    def _state(self, document: Document, name: str) -> ImageState:
        return ImageState(tuple(document.boxes(name)), tuple(document.labels(name)), document.revision(name))

    def summary(self) -> list[tuple[tuple[int, ...], int]]:
        """Of every image the classes that it shows or has boxes for, and how many boxes it has."""
        with self._lock:
            for document in self._documents:
                document.refresh()
            found = []
            for entry in self.entries:
                document = self._documents[entry.document]
                boxes = document.boxes(entry.name)
                found.append((tuple(sorted({*document.labels(entry.name), *(b.label for b in boxes)})), len(boxes)))
            return found

    def save(self, number: int, revision: str, boxes: Sequence[Mapping[str, Any]]) -> ImageState:
        """Make `boxes` those of an image, and write them; the new state.

        StaleError unless `revision` is that of the image now; ValueError for a box that cannot be used.
        """
        size = self.size(number)
        read = [self._read_box(box, size) for box in boxes]
        keys = [box.key for box in read if box.key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError("two boxes have the same key")
        entry = self.entries[number]
        with self._lock:
            document = self._documents[entry.document]
            document.refresh()
            if document.revision(entry.name) != revision:
                raise StaleError(f"{entry.name} has been changed elsewhere")
            document.replace_boxes(entry.name, size, read)
            return self._state(document, entry.name)

    def _read_box(self, box: Mapping[str, Any], size: Size) -> EditedBox:
        if not isinstance(box, Mapping):
            raise ValueError("a box is an object with key, label, box and never")
        key, label, never = box.get("key"), box.get("label"), box.get("never", False)
        if not is_integer(label) or not 0 <= label < len(self.classes):
            raise ValueError(f"a box has the class {label!r}, expected 0 to {len(self.classes) - 1}")
        if not isinstance(never, bool) or not (key is None or is_integer(key) or isinstance(key, str)):
            raise ValueError("a box has a key that is no number or text, or a never that is not true or false")
        corners = as_box(box.get("box"), "a box")
        height, width = size
        problem = box_problem(corners, height, width)
        if problem:
            raise ValueError(f"box {corners} {problem}")
        return EditedBox(key, label, corners, never)


def _images_below(folder: Path) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names if is_image(Path(name))]
    return found
