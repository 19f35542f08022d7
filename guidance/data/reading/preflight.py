"""Every image and annotation of a split is looked at before it is trained on: no fault of data ends a run after hours."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from guidance import distributed
from guidance.data.reading.image_checks import check_records
from guidance.data.reading.split_checks import DOUBTS, MISTAKES
from guidance.data.source import Source

LOG = logging.getLogger(__name__)
SHOWN = 5  # faults that are spelled out


def preflight(source: Source, *, pixels: bool, segmentations: bool, on_error: str, threads: int = 1) -> None:
    """Check every record of a split, shared by the processes; a collective call.

    `pixels`, `segmentations`: decode these; otherwise only their headers are read. Raises ValueError, on every process,
    where something is wrong and `on_error` is "raise"; with "skip" it is logged what will be left out. What is used as it
    is, but may mean that something is wrong (`split_checks.DOUBTS`), is logged.
    """
    share = range(distributed.rank(), len(source.records), distributed.world_size())
    records = [source.records[i] for i in share]
    checks = check_records(
        source, records, pixels=pixels, segmentations=segmentations, threads=threads, shown=distributed.is_main()
    )
    own = [(i, check.found) for i, check in zip(share, checks, strict=True) if check.found]
    parts = sorted(item for part in distributed.gather_objects(own) for item in part)
    found = [pair for _, pairs in parts for pair in pairs]
    where = f"{source.name} {source.split}"
    wrong = _tell(where, found, MISTAKES)
    if wrong and on_error == "raise":
        raise ValueError(
            f"{wrong}\nCorrect these, or leave them out with data.on_error: skip. `tools/prepare_data.py verify` lists all"
        )
    for text in (wrong and f"left out: {wrong}", _tell(where, found, DOUBTS), *source.gaps):
        if text:
            LOG.warning(text)


def _tell(where: str, found: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """How often each of `names` was found, and the first few of them in full; empty if none was."""
    counts = Counter(name for name, _ in found if name in names)
    if not counts:
        return ""
    summary = ", ".join(f"{name} ({counts[name]})" for name in names if counts[name])
    return with_details(f"{where}: {summary}", [text for name, text in found if name in names])


def with_details(summary: str, texts: Sequence[str]) -> str:
    """`summary`, and below it the first few of `texts`."""
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "\n  ".join([summary, *texts[:SHOWN], *more])
