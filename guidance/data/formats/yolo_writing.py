"""YOLO text files of a set, with the data.yaml that names its classes and splits."""

from __future__ import annotations

from pathlib import Path

import yaml

from guidance.data.formats.annotations import AnnotatedImage, Annotations, Remarks
from guidance.data.formats.splits import images_by_stem, link_images, split_name
from guidance.data.reading.decode import read_header


def write_yolo(annotations: Annotations, images: Path, output: Path) -> dict[str, tuple[str, ...]]:
    """images (see `link_images`), labels/<image>.txt, a list of files for each split, and data.yaml.

    An object with a single polygon is written as its outline, any other as its box. Objects of an image that EXIF turns are
    left out, because what trains on such files turns the image.
    """
    remarks = Remarks()
    link_images(images, output / "images")
    numbers = {name: number for number, name in enumerate(annotations.classes)}
    lists: dict[str, list[str]] = {}
    for image, stem in images_by_stem(annotations, "YOLO"):
        path = output / "labels" / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        turned = read_header(images / image.name).orientation != 1
        lines = [] if turned else _lines(image, numbers, remarks)
        if turned and image.objects:
            remarks.lose("images that EXIF turns, written without their objects", image.name)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        lists.setdefault(split_name(image.split) or "train", []).append(f"./images/{image.name}")
    content: dict[str, object] = {"path": str(output.resolve())}
    for split, names in lists.items():
        (output / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        content[split] = f"{split}.txt"
    content["names"] = dict(enumerate(annotations.classes))
    (output / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return remarks.lost


def _lines(image: AnnotatedImage, numbers: dict[str, int], remarks: Remarks) -> list[str]:
    height, width = image.size
    lines = []
    for item in image.objects:
        if item.never or item.box is None:
            remarks.lose("boxes marked 'never'" if item.never else "classes of an image without a box", image.name)
            continue
        shape = item.segmentation
        if isinstance(shape, list) and len(shape) == 1:
            values = [
                value / side for value, side in zip(shape[0], (width, height) * (len(shape[0]) // 2), strict=True)
            ]
        else:
            if shape is not None:
                remarks.lose("segmentations that are no single polygon", image.name)
            x0, y0, x1, y1 = item.box
            values = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
        lines.append(" ".join([str(numbers[item.label]), *(f"{value:.8g}" for value in values)]))
    return lines
