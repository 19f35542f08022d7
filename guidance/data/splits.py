"""Choices that a data set does not bring along: images held out for validation, images whose regions are used, orders."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
ANNOTATED = 2**31  # purpose of a permutation that is no epoch: else the annotated images would come first in epoch 0


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


def set_apart(names: Sequence[str], fraction: float, purpose: str) -> frozenset[int]:
    """Positions of round(`fraction` * N) of the N `names`, for a purpose that the others do not serve.

    At least one and not all where `fraction` > 0. Ranked by a hash of purpose and name, like the images of `train_or_val`.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the share for {purpose} must be at least 0 and below 1; got {fraction}")
    if fraction == 0:
        return frozenset()
    chosen = set(_first(names, min(max(round(fraction * len(names)), 1), len(names) - 1), purpose))
    return frozenset(position for position, name in enumerate(names) if name in chosen)


def annotated_subset(
    candidates: int | Sequence[int], fraction: float, seed: int, *, of: int | None = None
) -> list[int]:
    """The indices, ascending, whose regions may be used when only a `fraction` is annotated.

    `candidates`: the indices to choose from, or their number N for 0 to N - 1. int(fraction * N) are chosen, or, with `of`,
    int(fraction * of), as far as there are so many; the published code (Rao et al. 2023) rounds so, and 1 % of VOC's 2,501
    training images are the paper's 25 (R7). At least one is where `fraction` > 0. The choice depends on the seed and the
    candidates alone, and subsets are nested: a smaller fraction chooses a subset of what a larger one does.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"annotated_fraction must lie between 0 and 1; got {fraction}")
    indices = range(candidates) if isinstance(candidates, int) else candidates
    total = len(indices) if of is None else of
    count = int(fraction * total + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if fraction > 0:
        count = max(count, 1)
    return sorted(indices[position] for position in permutation(len(indices), seed, ANNOTATED)[:count])


def permutation(size: int, seed: int, purpose: int) -> list[int]:
    """The numbers below `size` in a random order that depends on `seed` and `purpose` alone; an epoch is a purpose."""
    state = int(np.random.SeedSequence((seed, purpose)).generate_state(1)[0])
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(state)).tolist()
    return order


def _first(names: Iterable[str], count: int, seed: int | str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())[:count]
