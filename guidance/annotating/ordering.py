"""In which order images are looked at."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class ImageScores(NamedTuple):
    """What a net makes of an image; NaN where it is not known."""

    epg: float = (
        math.nan
    )  # share of the positive energy that lies where it may, in [0, 1]; lowest over the annotated classes
    outside: float = (
        math.nan
    )  # positive energy that lies elsewhere, in the units of the map; the most over these classes
    certainty: float = math.nan  # how sure the net is, in [0, 1]


# Each gives what images are sorted by, lowest first, from name, scores and seed. What has no score comes last.
ORDERS: Mapping[str, Callable[[str, ImageScores, int], float]] = {
    "listed": lambda name, scores, seed: 0.0,
    "least_epg": lambda name, scores, seed: scores.epg,
    "most_outside": lambda name, scores, seed: -scores.outside,
    "least_certain": lambda name, scores, seed: scores.certainty,
    "random": lambda name, scores, seed: _draw(name, seed),
}
NEEDS_NET = ("least_epg", "most_outside", "least_certain")


def _draw(name: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:6], "big") / 2**48


def sort_images(names: Sequence[str], scores: Mapping[int, ImageScores], order: str, *, seed: int = 0) -> list[int]:
    """The numbers of the images in an order of ORDERS; `scores` by number, of those that have any. Ties stay as listed."""
    key = ORDERS[order]
    values = [key(name, scores.get(number, ImageScores()), seed) for number, name in enumerate(names)]
    return sorted(range(len(names)), key=lambda number: (math.isnan(values[number]), values[number], number))
