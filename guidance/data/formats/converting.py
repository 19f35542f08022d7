"""From annotations in one format to annotations in another, with everything told that is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from guidance.data.formats import FORMATS, Annotations
from guidance.data.reading.split_checks import SplitCheck, check_split, compare_splits
from guidance.data.sets.custom import load_custom
from guidance.types import lookup

SHOWN = 20  # faults that are spelled out
FAULTY = "faulty images and objects, left out"


@dataclass(frozen=True)
class Conversion:
    """What was converted, and what could not be kept: a sentence, and where it was met."""

    annotations: Annotations
    lost: Mapping[str, tuple[str, ...]]

    def describe(self) -> Iterator[str]:
        """Lines that count images and objects, and name what is not kept."""
        images = self.annotations.images
        objects = [item for image in images for item in image.objects]
        counts = {name: sum(item.label == name for item in objects) for name in self.annotations.classes}
        empty = sum(not image.objects for image in images)
        yield f"{len(images)} images, {len(objects)} objects: {', '.join(f'{n} {name}' for name, n in counts.items())}"
        if empty:
            yield f"{empty} images without an object: they are listed, and training leaves them out, because they have no class"
        for what, places in self.lost.items():
            yield f"not kept: {len(places)} {what} (first: {places[0]})"
        yield from self.annotations.faults[1:SHOWN]


def convert(
    source: Path, images: Path, output: Path, *, from_format: str, to_format: str = "coco", on_error: str = "raise"
) -> Conversion:
    """Write the annotations of `source`, of the images below `images`, to `output` in another format.

    `on_error` "skip" leaves out what is faulty, and tells it among what is lost; "raise" makes all faults one ValueError, and
    writes nothing. ValueError also for an unknown format, one that is only read, and an `output` that has annotations.
    """
    read = lookup(FORMATS, from_format, "format (--from)").read
    writers = {name: form.write for name, form in FORMATS.items() if form.write is not None}
    write = lookup(writers, to_format, "format that can be written (--to)")
    if any(output.glob("*.json")) or any((output / name).exists() for name in ("labels", "Annotations")):
        raise ValueError(f"{output} holds annotations already; choose another --output, or remove them")
    if not source.exists():
        raise ValueError(f"{source} does not exist; it is what the tool exported, a file or a folder")
    annotations = read(source, images)
    if annotations.faults and on_error == "raise":
        shown = "\n".join(annotations.faults[:SHOWN])
        raise ValueError(
            f"{len(annotations.faults)} faults in {source}; correct them, or leave out what is faulty with --on-error skip:\n"
            f"{shown}" + ("\n..." if len(annotations.faults) > SHOWN else "")
        )
    if not annotations.images or not annotations.classes:
        raise ValueError(f"{source} has no usable annotation of an image in {images}")
    output.mkdir(parents=True, exist_ok=True)
    lost = ({FAULTY: annotations.faults} if annotations.faults else {}) | dict(annotations.lost)
    for what, places in write(annotations, images, output).items():
        lost[what] = (*lost.get(what, ()), *places)
    return Conversion(annotations, lost)


def differences(before: Annotations, after: Annotations) -> list[str]:
    """What two sets of annotations do not share: images, and boxes of a class that are more than half a pixel apart."""
    boxes = [
        {image.name: sorted((i.label, *i.box) for i in image.objects if i.box and not i.never) for image in each.images}
        for each in (before, after)
    ]
    found = [f"image {name} is not in both" for name in sorted(set(boxes[0]) ^ set(boxes[1]))]
    for name in sorted(set(boxes[0]) & set(boxes[1])):
        one, other = boxes[0][name], boxes[1][name]
        near = len(one) == len(other) and all(
            a[0] == b[0] and max(abs(x - y) for x, y in zip(a[1:], b[1:], strict=True)) <= 0.5
            for a, b in zip(one, other, strict=True)
        )
        if not near:
            found.append(f"the boxes of image {name} are {one} and {other}")
    return found


def check_converted(output: Path, *, multi_label: bool, threads: int = 1) -> list[SplitCheck]:
    """Every split of a set in the custom layout, checked as `verify` does."""
    splits = [path.stem for path in sorted(output.glob("*.json"))]
    names = ["train" if name == "annotations" else name for name in splits]
    sources = [
        load_custom(output, name, layout="coco", multi_label=multi_label, val_fraction=0.0, on_error="skip")
        for name in sorted(names, key=lambda name: (name != "train", name))
    ]
    return compare_splits([check_split(source, threads=threads) for source in sources])
