"""The decoded caches of a config's splits: built, and checked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from guidance.assembly.sets import as_cached, caches_segments
from guidance.config import Config
from guidance.data import Source
from guidance.data.cache.images import build_cache, open_cache
from guidance.data.cache.segments import build_segments, open_segments
from guidance.data.reading.split_checks import SplitCheck


def with_cache(config: Config, check: SplitCheck) -> SplitCheck:
    """The check, with what is wrong with the pixels of the decoded cache, where the config has one that is built."""
    (source, size), folder = as_cached(config, check.source), config.data.cache
    caches = [] if folder is None else [open_cache(folder, source, size), open_segments(folder, source, size)]
    texts = [
        f"{what} {source.records[i].path} is damaged in {found.path}; `cache` builds it anew"
        for what, found in zip(("image", "a segmentation of image"), caches, strict=False) if found is not None
        for i in found.damaged_images()
    ]  # fmt: skip
    if not texts:
        return check
    counts = {**check.counts, "damaged images in the cache": len(texts)}
    return replace(check, counts=counts, problems=[*check.problems, *texts])


def cache_split(config: Config, source: Source, size: int, *, threads: int) -> Iterator[str]:
    """Build the caches of a split, or check every pixel of those that are there; says what was done."""
    folder, count = config.data.cache, len(source.records)
    assert folder is not None
    kinds: list[tuple[str, Any, Any]] = [("pixels", open_cache, build_cache)]
    if caches_segments(config, source):
        kinds.append(("segmentations", open_segments, build_segments))
    for name, open_, build in kinds:
        start, done, found = time.perf_counter(), "checked", open_(folder, source, size)
        if found is None or found.damaged_images():
            done = "built" if found is None else f"built anew, because {name} were damaged"
            found = build(folder, source, size, on_error=config.data.on_error, threads=threads, progress=True)
        taken = found.path.stat().st_size
        yield (
            f"{found.path} {done}: {name} of {count} images of {size} pixels, {taken / count:,.0f} bytes per image "
            f"({taken / 1e6:,.1f} MB), {time.perf_counter() - start:.2f} s"
        )
