"""Annotations as other tools write them, one format per file.

`FORMATS` maps a name to its reader, `(source, images) -> Annotations`, and its writer, `(annotations, images, output) -> what
could not be kept`, or None. `source` is what the tool wrote, a file or a folder, and `images` the folder of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations
from guidance.data.formats.class_masks import read_class_masks
from guidance.data.formats.custom_json import read_custom_json, write_custom_json
from guidance.data.formats.cvat import read_cvat
from guidance.data.formats.label_studio import read_label_studio
from guidance.data.formats.voc_xml import read_voc_xml, write_voc_xml
from guidance.data.formats.yolo import read_yolo
from guidance.data.formats.yolo_writing import write_yolo

__all__ = ["FORMATS", "AnnotatedImage", "AnnotatedObject", "AnnotationFormat", "Annotations"]

Lost = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class AnnotationFormat:
    """How annotations of a tool are read and, where that makes sense, written."""

    read: Callable[[Path, Path], Annotations]
    write: Callable[[Annotations, Path, Path], Lost] | None = None


FORMATS: Mapping[str, AnnotationFormat] = {
    "coco": AnnotationFormat(read_custom_json, write_custom_json),
    "cvat": AnnotationFormat(read_cvat),
    "label_studio": AnnotationFormat(read_label_studio),
    "masks": AnnotationFormat(read_class_masks),
    "voc": AnnotationFormat(read_voc_xml, write_voc_xml),
    "yolo": AnnotationFormat(read_yolo, write_yolo),
}
