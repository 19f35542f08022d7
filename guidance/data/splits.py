"""Splits that a data set does not bring along: which training images are held out for validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def train_or_val(
    items: Sequence[T],
    split: str,
    *,
    names: Sequence[str],
    fraction: float,
    seed: int,
    classes: Sequence[int] | None = None,
) -> list[T]:
    """Those of the training images `items` that belong to `split`, "train" or "val"; the two share none and lose none.

    ceil(`fraction` * N) of the `names` are held out as "val"; so 10 % of COCO's 82,081 are the 8,209 of Rao et al. 2023.
    With the `classes` of the images, round(`fraction` * n) of each class of n images are, but at least one and not all
    (none of a class with a single image). Names are ranked by a hash of seed and name, so the choice depends neither on
    their order nor on the version of any library. A "val" that `fraction` leaves empty is a ValueError.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"data.val_fraction must be at least 0 and below 1; got {fraction}")
    held_out = set()
    if classes is None:
        held_out.update(_first(names, math.ceil(fraction * len(names) - 1e-9), seed))  # 0.07 * 100 is 7.000000000000001
    else:
        of_class: dict[int, list[str]] = {}
        for name, label in zip(names, classes, strict=True):
            of_class.setdefault(label, []).append(name)
        for members in of_class.values():
            count = round(fraction * len(members))
            held_out.update(_first(members, min(max(count, int(fraction > 0)), len(members) - 1), seed))
    if split == "val" and names and not held_out:
        raise ValueError(
            f"data.val_fraction {fraction} of {len(names)} training images leaves none for the split 'val', which has no "
            "files of its own; raise it, or name another split"
        )
    return [item for item, name in zip(items, names, strict=True) if (name in held_out) == (split == "val")]


def _first(names: Iterable[str], count: int, seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())[:count]
