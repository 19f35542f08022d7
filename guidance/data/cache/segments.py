"""Segmentations of a split as squares of the size of its cached images, decoded and resized once.

A file of its own beside that of the images: a header (4096 bytes of JSON), of each segmentation a bit for each pixel, of each
its class and a checksum of its bits, and of each image how many it has, or -1 where they could not be read.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guidance.data.annotation import read_segments
from guidance.data.cache import file as cache_file
from guidance.data.cache.file import CHUNK, HEADER
from guidance.data.cache.images import digest, opened, settings, shared
from guidance.data.cache.images import prefix as images_prefix
from guidance.data.reading.decode import UnreadableError, read_header
from guidance.data.source import Record, Source, check_on_error, relative_names
from guidance.data.transforms.crops import crop_annotation
from guidance.data.transforms.views import Segments
from guidance.progress import Progress

FORMAT = 1001  # apart from those of images
ENDING = ".segments"
UNREAD = -1
Rows = tuple[NDArray[np.int64], NDArray[np.uint8]]  # classes [m], and bits [m, ceil(size * size / 8)]


class SegmentCache:
    """The segmentations of `source` as its images are cached, from the file `path` that `build_segments` wrote.

    The file is mapped, as that of an `ImageCache`. Raises ValueError where it is damaged or of another format.
    """

    def __init__(self, path: Path, source: Source, size: int) -> None:
        self.path, self.source, self.size = path, source, size
        self.header = cache_file.read_header(path, FORMAT)
        images, rows, width = len(source.records), int(self.header["rows"]), _row_bytes(size)
        if os.path.getsize(path) != HEADER + rows * (width + 16) + 8 * images:
            raise ValueError("the file is shorter or longer than its segmentations")
        table = np.fromfile(path, np.int64, offset=HEADER + rows * width)
        if zlib.crc32(table.tobytes()) != self.header["table"]:
            raise ValueError("its table is damaged")
        self._classes, self._checksums, self._counts = np.split(table, [rows, 2 * rows])
        self._starts = np.cumsum(self._counts.clip(0)) - self._counts.clip(0)
        bits = np.memmap(path, np.uint8, mode="r", offset=HEADER, shape=(rows, width)) if rows else np.zeros((0, width))
        self._bits = np.asarray(bits, np.uint8)
        self._positions = {record: i for i, record in enumerate(source.records)}

    def __reduce__(self) -> tuple[Any, ...]:
        return SegmentCache, (self.path, self.source, self.size)  # a spawned worker maps the file itself

    def read(self, record: Record, height: int, width: int) -> Mapping[int, Tensor]:
        """{class: [size, size] bool} of an image whose file is `height` x `width` pixels: what `read_segments` gives, resized.

        Also a class of which that left no pixel. What could not be read when the cache was built is read from its file.
        """
        index = self._positions[record]
        count, start = int(self._counts[index]), int(self._starts[index])
        if count == UNREAD:
            return squares(self.source, record, height, width, self.size)
        flat = np.unpackbits(self._bits[start : start + count], axis=1, count=self.size**2).view(bool)
        masks = torch.from_numpy(flat).view(count, self.size, self.size)
        return dict(zip(self._classes[start : start + count].tolist(), masks, strict=True))

    def damaged_images(self) -> list[int]:
        """The images with a segmentation that is not the one that was written. Reads the whole file."""
        wrong = np.array(
            [zlib.crc32(row.data) != sum_ for row, sum_ in zip(self._bits, self._checksums, strict=True)], bool
        )
        owners = np.repeat(np.arange(len(self._counts)), self._counts.clip(0))
        return sorted(set(owners[wrong].tolist()))


def squares(source: Source, record: Record, height: int, width: int, size: int) -> dict[int, Tensor]:
    """`read_segments` as squares of `size` pixels, cropped and resized as the samples of a cache of images are."""
    found = read_segments(source, record, height, width)
    if not found:
        return {}
    segments = Segments(torch.stack(list(found.values())).to(torch.uint8))
    view = crop_annotation({"segments": segments}, size, source.crop, source.resizing)
    return dict(zip(found, view["segments"].as_subclass(Tensor).bool(), strict=True))


def has_segments(source: Source) -> bool:
    """Whether there is anything to cache."""
    return source.read_segments is not None and any(record.segmentation is not None for record in source.records)


def segments_path(folder: Path, source: Source, size: int) -> Path:
    """The file of the segmentations of a split at a size.

    Its name depends on all that the name of the image cache depends on, on the states of the files of segmentations, on the
    classes of each image, and on what reads them with all that it holds, as outlines from an annotation file. (These know where
    their images lie: moved, such a set needs a new one.)
    """
    files = [record.segmentation for record in source.records]
    states = {path: None if path is None else cache_file.fingerprint([path]) for path in set(files)}
    content = [
        FORMAT, *settings(source, size), relative_names(source.records)[1],
        cache_file.fingerprint(record.path for record in source.records), [states[path] for path in files],
        *_reading(source),
    ]  # fmt: skip
    return folder / f"{images_prefix(source, size)}{digest(content)[:12]}{ENDING}"


def _reading(source: Source) -> list[Any]:
    """What a reader is asked for, and what it is."""
    reader = hashlib.sha256(pickle.dumps(source.read_segments)).hexdigest()
    return [[record.classes for record in source.records], reader]


def open_segments(folder: Path, source: Source, size: int) -> SegmentCache | None:
    """The cache of the segmentations in `folder`; None where none fits, or where it is damaged, which is logged."""
    return opened(SegmentCache, segments_path(folder, source, size), source, size)


def build_segments(
    folder: Path, source: Source, size: int, *, on_error: str = "raise", threads: int = 1, progress: bool = False
) -> SegmentCache:
    """Decode and resize every segmentation of `source` into a new file in `folder`, and open it; see `build_cache`."""
    check_on_error(on_error)
    path = segments_path(folder, source, size)
    # Not of another use of the same images, which is not outdated.
    images = digest([FORMAT, *settings(source, size), *relative_names(source.records), *_reading(source)])
    with cache_file.new_file(path, len(source.records) * (_row_bytes(size) + 24)) as file:
        file.write(b" " * HEADER)
        classes: list[int] = []
        checksums: list[int] = []
        counts: list[int] = []
        bar = Progress(f"caching {source.split}", len(source.records), unit="mask", keep=False, shown=progress)
        with bar:
            for found in bar.track(_decoded(source, size, on_error, threads)):
                counts.append(UNREAD if found is None else len(found[0]))
                if found is not None:
                    file.write(found[1].tobytes())
                    classes += found[0].tolist()
                    checksums += [zlib.crc32(row.data) for row in found[1]]
        table = np.array([*classes, *checksums, *counts], np.int64).tobytes()
        file.write(table)
        cache_file.write_header(file, format=FORMAT, images=images, table=zlib.crc32(table), rows=len(classes))
    cache_file.remove_outdated(path, images_prefix(source, size), images, FORMAT)
    return SegmentCache(path, source, size)


def shared_segments(
    folder: Path, source: Source, size: int, *, on_error: str = "raise", threads: int = 1, progress: bool = True
) -> SegmentCache:
    """The cache of the segmentations, built where it is missing or outdated, as `shared_cache`. A collective call."""
    return shared(
        partial(open_segments, folder, source, size),
        partial(build_segments, folder, source, size, on_error=on_error, threads=threads),
        str(segments_path(folder, source, size)), progress=progress,
    )  # fmt: skip


def _decoded(source: Source, size: int, on_error: str, threads: int) -> Iterator[Rows | None]:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        decode = partial(_decode, source=source, size=size, on_error=on_error)
        for first in range(0, len(source.records), CHUNK):
            yield from pool.map(decode, source.records[first : first + CHUNK])


def _decode(record: Record, *, source: Source, size: int, on_error: str) -> Rows | None:
    """Classes and bits of an image's segmentations; None where they, or the image, cannot be read."""
    found: dict[int, Tensor] = {}
    if record.segmentation is not None:
        try:
            height, width = read_header(record.path).size(displayed=source.displayed)
            found = squares(source, record, height, width, size)
        except UnreadableError:
            if on_error == "raise":
                raise
            return None
    masks = torch.stack(list(found.values())).flatten(1).numpy() if found else np.zeros((0, size * size), bool)
    return np.array(list(found), np.int64), np.packbits(masks, axis=1)


def _row_bytes(size: int) -> int:
    return -(-size * size // 8)
