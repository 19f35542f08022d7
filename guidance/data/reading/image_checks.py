"""What can be wrong with an image and its annotation: files, frames, boxes, segmentations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.complaints import complaint, listen
from guidance.data.reading.decode import Header, UnreadableError, read_header, read_image
from guidance.data.reading.files import is_image
from guidance.data.source import Record, Source
from guidance.progress import Progress
from guidance.regions import ROUNDING, box_problem, overhang

CHUNK = 128  # images that are checked before the one is looked for that the decoder complained of


class ImageCheck(NamedTuple):
    """What is wrong with one image: (name of a count, explanation) pairs."""

    found: tuple[tuple[str, str], ...]
    annotated: frozenset[int]  # positive classes with a box or a segmentation that is not empty


def check_image(source: Source, record: Record, *, pixels: bool, segmentations: bool) -> ImageCheck:
    """Check one image and its annotation.

    `pixels`: decode the image, `segmentations`: its segmentations; otherwise only headers are read, and a segmentation counts
    for all classes of its image.
    """
    segmented = frozenset(record.classes if record.segmentation is not None else ())
    boxed = frozenset(record.classes) & frozenset(record.box_classes)
    try:
        header = _header(record.path)
        height, width = header.size(displayed=source.displayed)
        if pixels:
            height, width = read_image(record.path, displayed=source.displayed).shape[1:]
    except UnreadableError as error:
        return ImageCheck((("unreadable images", str(error)),), boxed | segmented)
    found = [*_check_frame(source, record, header, height, width), *_check_boxes(record, height, width)]
    if segmentations and not any(name == "faulty segmentations" for name, _ in found):
        faulty, segmented = _check_segmentations(source, record, height, width)
        found += faulty
    return ImageCheck(tuple(found), boxed | segmented)


def _header(path: Path) -> Header:
    try:
        return read_header(path)
    except UnreadableError:  # torchvision may know better than Pillow
        image = read_image(path)
        return Header(image.shape[1], image.shape[2], 1)


def _check_frame(source: Source, record: Record, header: Header, height: int, width: int) -> Iterator[tuple[str, str]]:
    """Whether the annotation may have been made in another frame than that of the pixels that are used."""
    if header.orientation != 1:
        yield "images turned by EXIF", (
            f"{record.path} has the EXIF orientation {header.orientation}: viewers turn it, "
            + ("and so does data.orientation: displayed" if source.displayed else "while stored pixels are used here; if the "
               "annotation was made on the displayed picture, set data.orientation: displayed")
        )  # fmt: skip
    if record.size is not None and record.size != (height, width):
        swapped = record.size == (width, height)
        text = (
            f"{record.path} is {width} x {height} pixels, but {record.size[1]} x {record.size[0]} in its annotation"
            + (" (the two are swapped: it was probably made on the displayed picture, which EXIF turns; see data.orientation)"
               if swapped else "")
        )  # fmt: skip
        drawn = record.segmentation is not None and not is_image(record.segmentation)  # at the annotated size
        yield "faulty segmentations" if drawn else "images of another size than annotated", text
    if record.segmentation is not None and is_image(record.segmentation):
        try:
            other = read_header(record.segmentation, "segmentation")
        except UnreadableError as error:
            yield "faulty segmentations", str(error)
            return
        if other[:2] != (height, width):
            yield (
                "faulty segmentations",
                (
                    f"segmentation {record.segmentation} is {other[:2]} (height, width), but its image is {(height, width)}"
                ),
            )


def _check_boxes(record: Record, height: int, width: int) -> Iterator[tuple[str, str]]:
    for box in record.boxes + record.never_boxes:
        problem = box_problem(box, height, width)
        if problem:
            empty = not (box[2] > box[0] and box[3] > box[1])
            name = "boxes of zero size" if empty else "boxes outside the image"
            yield name, f"box {box} of image {record.path} {problem}; correct the annotation"
        elif overhang(box, height, width) > ROUNDING:
            yield (
                "boxes clipped at the border",
                (
                    f"box {box} of image {record.path} sticks out of the image (width {width}, height {height}) by "
                    f"{overhang(box, height, width):g} pixels"
                ),
            )


def _check_segmentations(
    source: Source, record: Record, height: int, width: int
) -> tuple[list[tuple[str, str]], frozenset[int]]:
    """What is wrong with the segmentations of an image, and the positive classes of which one has a pixel."""
    if source.read_segments is None or record.segmentation is None:
        return [], frozenset()
    try:
        masks = source.read_segments(record)
    except UnreadableError as error:
        return [("faulty segmentations", str(error))], frozenset()
    sizes = {tuple(mask.shape) for mask in masks.values()}
    if sizes - {(height, width)}:
        text = f"segmentation of {record.path} is {min(sizes)} (height, width), but the image is {(height, width)}"
        return [("faulty segmentations", text)], frozenset()
    empty = [k for k, mask in masks.items() if not bool(mask.any())]
    found = [("empty segmentations", f"{record.path} has no pixel of {source.classes[k]}") for k in empty]
    return found, (frozenset(masks) - frozenset(empty)) & frozenset(record.classes)


def check_records(
    source: Source,
    records: Sequence[Record],
    *,
    pixels: bool,
    segmentations: bool,
    threads: int = 1,
    shown: bool = False,
) -> Iterator[ImageCheck]:
    """`check_image` of each of the records, in order; with `pixels`, also what the decoder says of damaged bytes.

    `shown`: with a bar.
    """
    with (
        ThreadPoolExecutor(max(1, threads)) as pool,
        Progress(f"checking {source.split}", len(records), unit="image", keep=False, shown=shown) as bar,
    ):

        def check(chunk: Sequence[Record]) -> list[ImageCheck]:
            return list(pool.map(partial(check_image, source, pixels=pixels, segmentations=segmentations), chunk))

        for first in range(0, len(records), CHUNK):
            chunk = records[first : first + CHUNK]
            found, damaged = listen(check, chunk) if pixels else (check(chunk), False)
            yield from bar.track(map(_with_complaint, found, chunk) if damaged else found)


def _with_complaint(check: ImageCheck, record: Record) -> ImageCheck:
    said = "" if check.found[:1] and check.found[0][0] == "unreadable images" else complaint(record.path)
    return check._replace(found=(*check.found, ("damaged bytes", f"{record.path}: {said}"))) if said else check
