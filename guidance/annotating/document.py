"""One COCO JSON that is edited: what it holds beside images and boxes stays as it is, and it is whole at any moment."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.data.reading.files import Box, Once, Size, as_box, box_from_size, is_integer, read_json
from guidance.data.sets.instances import read_instances

NEAR = 1e-6  # pixels by which a box may differ and still be the same


@dataclass(frozen=True)
class EditedBox:
    """A box of an image. `key`: the id of its annotation in the file; None for a new one."""

    key: int | str | None
    label: int  # class
    box: Box  # x0, y0, x1, y1, half-open, in pixels
    never: bool = False
    outlined: bool = False  # the file has a segmentation for it


class Document:
    """A JSON file in the format of COCO's instances.

    It is written after each change: into a file beside it, which is then renamed, so that a kill at any moment leaves the old
    or the new content. Another program may write it too: it is read again where it has changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[
            int | str, dict[str, Any]
        ] = {}  # annotations as they were first read, for those that come back
        self._read()

    def _read(self) -> None:
        strays = read_instances(self.path).strays
        if strays:
            raise ValueError(
                f"{strays[0]}; correct {self.path} first (tools/prepare_data.py verify lists what is wrong)"
            )
        self._stamp = self._stat()
        self.content: dict[str, Any] = read_json(self.path)
        self.categories = sorted(self.content["categories"], key=lambda entry: int(entry["id"]))
        self._number_classes()
        self.images: dict[str, dict[str, Any]] = {entry["file_name"]: entry for entry in self.content["images"]}
        self._of_image: dict[Any, list[dict[str, Any]]] = {}
        once, free = Once(f"{self.path}: annotation"), 1 + max(map(_number, self.content["annotations"]), default=0)
        for entry in self.content["annotations"]:
            if not isinstance(entry.get("id"), int | str):  # it needs one to be told apart
                entry["id"], free = free, free + 1
            once.check(entry["id"])
            self._of_image.setdefault(entry["image_id"], []).append(entry)
            self._known.setdefault(entry["id"], copy.deepcopy(entry))

    def _stat(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_mtime_ns, found.st_size

    def refresh(self) -> None:
        """Read the file again if another program has written it."""
        if self._stat() != self._stamp:
            self._read()

    def _number_classes(self) -> None:
        self._labels = {entry["id"]: label for label, entry in enumerate(self.categories)}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories, in the order of their ids."""
        return tuple(str(entry["name"]) for entry in self.categories)

    def add_classes(self, names: Sequence[str]) -> None:
        """New categories, after the others."""
        highest = max((int(entry["id"]) for entry in self.categories), default=0)
        entries = [{"id": highest + i, "name": name} for i, name in enumerate(names, 1)]
        self.content["categories"] += entries
        self.categories += entries
        self._number_classes()

    def annotations(self, name: str) -> list[dict[str, Any]]:
        """The annotations of an image, as they stand in the file."""
        entry = self.images.get(name)
        return [] if entry is None else self._of_image.get(entry["id"], [])

    def boxes(self, name: str) -> list[EditedBox]:
        """The boxes of an image; annotations without a usable bbox, or of no category, are none."""
        found = [(entry, self._label(entry), _box_of(entry)) for entry in self.annotations(name)]
        return [
            EditedBox(entry["id"], label, box, entry.get("never") is True, bool(entry.get("segmentation")))
            for entry, label, box in found
            if label is not None and box is not None
        ]

    def labels(self, name: str) -> list[int]:
        """The classes that the image shows, ascending: those of all annotations but "never" boxes."""
        shown = {self._label(entry) for entry in self.annotations(name) if entry.get("never") is not True}
        return sorted(label for label in shown if label is not None)

    def _label(self, entry: Mapping[str, Any]) -> int | None:
        key = entry.get("category_id")
        return self._labels.get(key) if is_integer(key) else None

    def revision(self, name: str) -> str:
        """What changes whenever the annotations of the image do."""
        text = json.dumps(self.annotations(name), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def replace_boxes(self, name: str, size: Size, boxes: Sequence[EditedBox]) -> None:
        """Make `boxes` the boxes of an image of `size` (height, width), and write the file.

        Fields of an annotation that are not known here stay, also of one that was deleted and comes back; its segmentation goes
        when its box is moved, and returns with it. Annotations without a box stay.
        """
        image = self._image(name, size)
        sent = {box.key: box for box in boxes if box.key is not None}
        kept: list[dict[str, Any]] = []
        for entry in self.content["annotations"]:
            if entry["image_id"] != image["id"] or self._label(entry) is None or _box_of(entry) is None:
                kept.append(entry)
            elif entry["id"] in sent:
                kept.append(self._changed(entry, sent.pop(entry["id"])))
        free = 1 + max((key for each in (kept, self._known.values()) for key in map(_number, each)), default=0)
        for box in boxes:
            if box.key is not None and box.key not in sent:
                continue
            before = self._known.get(box.key, {}) if box.key is not None else {}
            if before and before.get("image_id") != image["id"]:
                raise ValueError(f"annotation {box.key} belongs to another image")
            entry = {**copy.deepcopy(before), "id": box.key if before else free, "image_id": image["id"]}
            free += not before
            kept.append(self._changed(entry, box))
            self._known.setdefault(kept[-1]["id"], copy.deepcopy(kept[-1]))
        self.content["annotations"] = kept
        self._of_image[image["id"]] = [entry for entry in kept if entry["image_id"] == image["id"]]
        self.write()

    def _image(self, name: str, size: Size) -> dict[str, Any]:
        """The entry of an image, which is added if it has none."""
        if name not in self.images:
            free = 1 + max((_number(entry) for entry in self.content["images"]), default=0)
            self.images[name] = {"id": free, "file_name": name, "height": size[0], "width": size[1]}
            self.content["images"].append(self.images[name])
        return self.images[name]

    def _changed(self, entry: Mapping[str, Any], box: EditedBox) -> dict[str, Any]:
        """The annotation with the class and place of `box`."""
        changed, before = dict(entry), self._known.get(entry["id"], {})
        x0, y0, x1, y1 = box.box
        changed["category_id"] = self.categories[box.label]["id"]
        if not _same(_box_of(entry), box.box):
            changed["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            changed.pop("segmentation", None)
            if "segmentation" in before and _same(_box_of(before), box.box):
                changed["segmentation"] = before["segmentation"]
            if "area" in changed:
                changed["area"] = (x1 - x0) * (y1 - y0)
        if box.never:
            changed["never"] = True
        else:
            changed.pop("never", None)
        return changed

    def write(self) -> None:
        """Write the file, so that it is whole at any moment, also when the machine stops."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.content, file, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self._stamp = self._stat()


def _box_of(entry: Mapping[str, Any]) -> Box | None:
    try:
        return box_from_size(as_box(entry.get("bbox"), "bbox"))
    except ValueError:
        return None


def _same(one: Box | None, other: Box) -> bool:
    return one is not None and all(abs(a - b) <= NEAR for a, b in zip(one, other, strict=True))


def _number(entry: Mapping[str, Any]) -> int:
    key = entry.get("id")
    return key if is_integer(key) else 0
