"""Which classes compete. To add a way to choose them, write a function and a row in CLASS_SETS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guidance.types import suggestion


@dataclass(frozen=True)
class ClassSet:
    """A row of CLASS_SETS.

    `choose`: (logits [M, K], k) -> classes [M, C] long; k is the number in the name, 0 without one. None: they are the classes
    that the image has, which the request names (`Request.classes`). The explained class always joins them.
    """

    choose: Callable[[Tensor, int], Tensor] | None
    least: int = 1  # smallest k


def top(logits: Tensor, k: int) -> Tensor:
    """The k most probable classes (Walter et al., Sec. 3.4); all where there are fewer."""
    return logits.topk(min(k, logits.shape[1]), dim=1).indices


def top_and_lowest(logits: Tensor, k: int) -> Tensor:
    """The k most probable classes, and the least probable one."""
    return torch.cat((top(logits, k), logits.argmin(1, keepdim=True)), dim=1)


def best_and_worst(logits: Tensor, k: int) -> Tensor:
    """The most and the least probable class."""
    return top_and_lowest(logits, 1)


# <k> stands for a number. In the top 1 nothing competes.
CLASS_SETS: dict[str, ClassSet] = {
    "top<k>": ClassSet(top, least=2),
    "top<k>_lowest": ClassSet(top_and_lowest),
    "best_worst": ClassSet(best_and_worst),
    "ground_truth": ClassSet(None),
}


def find_class_set(name: str) -> tuple[ClassSet, int]:
    """The row that a name such as "top2" stands for, and its k. Raises ValueError for an unknown name and for a k too small."""
    template, number = re.sub(r"\d+", "<k>", name, count=1), re.search(r"\d+", name)
    if template not in CLASS_SETS or "<k>" in name:
        known = ", ".join(sorted(CLASS_SETS))
        hint = suggestion(template, CLASS_SETS)
        raise ValueError(f"unknown class set {name!r}; known: {known}, where <k> is a number, as in top2.{hint}")
    row, k = CLASS_SETS[template], int(number.group()) if number else 0
    if number and k < row.least:
        smallest = template.replace("<k>", str(row.least))
        raise ValueError(f"in the class set {name!r} nothing competes; the smallest of its kind is {smallest!r}")
    return row, k


def label_classes(targets: Tensor, rows: Tensor, explained: Tensor, most: int | None = None) -> Tensor:
    """The classes that the image of each map has: [M, C] long for `Request.classes`.

    `targets` [B, K] multi-hot, `rows` [M] long: row of the batch, `explained` [M] long: the class of each map, with which its
    row is filled up where its image has fewer classes than another (the lens counts every class once). `most`: C, the most
    classes of one image; None counts them here, at the price of waiting for the device.
    """
    if most is None:
        most = int(targets.gt(0).sum(1).max()) if len(targets) else 0
    values, classes = targets.index_select(0, rows).topk(max(most, 1), dim=1)
    return torch.where(values > 0, classes, explained[:, None])


def competing(sets: Tensor) -> Tensor:
    """Which of the classes [M, C] are the first of their kind in their row [M, C] bool; what is there twice competes once."""
    same = sets[:, :, None] == sets[:, None, :]
    return ~same.tril(-1).any(2)
