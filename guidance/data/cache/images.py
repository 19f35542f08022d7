"""Resized images of a split, decoded once, shared by all processes and loader workers through the page cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torchvision
from torch import Tensor

from guidance import distributed
from guidance.data.cache import file as cache_file
from guidance.data.cache.file import HEADER, cache_bytes
from guidance.data.reading.decode import read_image
from guidance.data.source import Source, check_on_error, relative_names
from guidance.data.transforms.crops import USUAL, crop_image

T = TypeVar("T")
LOG = logging.getLogger(__name__)


class ImageCache:
    """The images of `source`, their squares of `size` pixels (`Source.crop`), from the file `path` that `build_cache` wrote.

    The file is mapped, not read: its pages are in memory once for all processes, and only as long as there is room. Raises
    ValueError where the file is damaged or of another format. Pixels are not checked; see `damaged_images`.
    """

    def __init__(self, path: Path, source: Source, size: int) -> None:
        self.path, self.source, self.size = path, source, size
        self.header = cache_file.read_header(path)
        shape = (len(source.records), 3, size, size)
        pixels = int(np.prod(shape))
        if os.path.getsize(path) != HEADER + pixels + 24 * len(source.records):
            raise ValueError("the file is shorter or longer than its images")
        self._table = np.fromfile(path, np.int64, offset=HEADER + pixels).reshape(-1, 3)
        if zlib.crc32(self._table.tobytes()) != self.header["table"]:
            raise ValueError("its table is damaged")
        # Copy on write: nothing that happens to a sample reaches the file, and a file that may not be written will do.
        self._pixels = torch.from_numpy(np.asarray(np.memmap(path, np.uint8, mode="c", offset=HEADER, shape=shape)))

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageCache, (self.path, self.source, self.size)  # a spawned worker maps the file itself

    def __len__(self) -> int:
        return len(self._table)

    def read(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        """[3, size, size] uint8, and the (height, width) of the image's file.

        An image that could not be read when the cache was built is read from its file: UnreadableError if it still cannot.
        """
        height, width = int(self._table[index, 0]), int(self._table[index, 1])
        if height == 0:
            image = read_image(self.source.records[index].path, displayed=self.source.displayed)
            square = crop_image(image, self.size, self.source.crop, self.source.resizing)
            return square, (image.shape[1], image.shape[2])
        return self._pixels[index], (height, width)

    def damaged_images(self) -> list[int]:
        """The images whose pixels are not those that were written. Reads the whole file."""
        return [
            i for i, row in enumerate(self._table) if row[0] and cache_file.checksum(self._pixels[i].numpy()) != row[2]
        ]


def cache_path(folder: Path, source: Source, size: int) -> Path:
    """The file of a split at a size.

    Its name depends on the names of the images in their order, on size and time of change of each file, on
    `Source.displayed` and `Source.crop`, and on the release of torchvision, which decodes and resizes. So a changed file makes
    the cache another one, and a data set may be moved together with its cache.
    """
    _, names = relative_names(source.records)
    state = digest([*settings(source, size), names, cache_file.fingerprint(record.path for record in source.records)])
    return folder / f"{prefix(source, size)}{state[:12]}{cache_file.ENDING}"


def open_cache(folder: Path, source: Source, size: int) -> ImageCache | None:
    """The cache of a split in `folder`; None where there is none that fits, or where it is damaged, which is logged."""
    return opened(ImageCache, cache_path(folder, source, size), source, size)


def opened(kind: Callable[[Path, Source, int], T], path: Path, source: Source, size: int) -> T | None:
    """The cache in a file, of images or of their segmentations; None as `open_cache` says."""
    if not path.is_file():
        return None
    try:
        return kind(path, source, size)
    except (ValueError, OSError) as error:
        LOG.warning("the cache %s is not used: %s", path, error)
        return None


def build_cache(
    folder: Path, source: Source, size: int, *, on_error: str = "raise", threads: int = 1, progress: bool = False
) -> ImageCache:
    """Decode and resize every image of `source` into a new cache file in `folder`, and open it.

    Caches of the same images as they were before they changed are deleted. `on_error` "raise": an unreadable image is an
    UnreadableError, and no cache is made; "skip": see `ImageCache.read`. Raises ValueError where the folder cannot be
    written or the disk is full.
    """
    check_on_error(on_error)
    path = cache_path(folder, source, size)
    images = digest([*settings(source, size), *relative_names(source.records)])
    with cache_file.new_file(path, cache_bytes(source, size)) as file:
        cache_file.write_images(
            file, source, size, images=images, on_error=on_error, threads=threads, progress=progress
        )
    cache_file.remove_outdated(path, prefix(source, size), images)
    return ImageCache(path, source, size)


def shared_cache(
    folder: Path, source: Source, size: int, *, on_error: str = "raise", threads: int = 1, progress: bool = True
) -> ImageCache:
    """The cache of a split, which the main process builds first where it is missing or outdated. A collective call.

    Where machines do not share `folder`, one process of each of the others then builds its own. Any error is raised on
    every process.
    """
    return shared(
        partial(open_cache, folder, source, size),
        partial(build_cache, folder, source, size, on_error=on_error, threads=threads),
        str(cache_path(folder, source, size)), progress=progress,
    )  # fmt: skip


def shared(open_: Callable[[], T | None], build: Callable[..., T], name: str, *, progress: bool) -> T:
    """What `open_` gives, after the main process has built it where that is nothing; see `shared_cache`. A collective call."""
    main = distributed.is_main()
    for my_turn in (main, distributed.is_local_main() and not main):
        problem = None
        if my_turn:
            try:
                if open_() is None:
                    build(progress=progress and main)
            except ValueError as error:
                problem = str(error)
        problems = [text for text in distributed.gather_objects(problem) if text]  # this is also the barrier
        if problems:
            raise ValueError(problems[0])
    cache = open_()
    if cache is None:
        raise ValueError(f"the cache {name} was built, but a process does not find it; did images change?")
    return cache


def prefix(source: Source, size: int) -> str:
    """How the names of all caches of a split at a size begin."""
    return re.sub(r"\W+", "_", f"{source.name}_{source.split}_{size}_")


def settings(source: Source, size: int) -> list[Any]:
    """What caches depend on beside files: what decodes, resizes and crops."""
    return [cache_file.FORMAT, torchvision.__version__, size, *(["displayed"] if source.displayed else []),
            *([source.crop] if source.crop != "none" else []),
            *(astuple(source.resizing) if source.resizing != USUAL else ())]  # fmt: skip


def digest(content: Any) -> str:
    """Of plain types."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
