"""Loading parts of a training state: what is wrong with one is found before a step is trained, and named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


@contextmanager
def part(name: str) -> Iterator[None]:
    """Around the loading of a part of a training state: whatever is wrong with it is a ValueError that names the part."""
    try:
        yield
    except Exception as error:  # of plain types in any disorder, and of what torch makes of them
        raise ValueError(f"of its training state, {name} is missing, damaged, or does not fit this run") from error


def natural(value: Any) -> int:
    """`value`, a whole number of at least 0; ValueError for anything else."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no natural number")
    return value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by their names; ValueError for anything else."""
    if any(type(value) not in (int, float) or type(name) is not str for name, value in values.items()):
        raise ValueError("not all are numbers by their names")
    return dict(values)


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state of an optimizer, whose tensors must have the shapes of their parameters: torch finds out in a step."""
    groups = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for old, new in zip(groups, optimizer.param_groups, strict=True):
        if any(name not in new or not _alike(value, new[name]) for name, value in old.items()):
            raise ValueError("a group of parameters lacks a setting")
    if len({frozenset(values) for values in optimizer.state.values()}) > 1:
        raise ValueError("some parameters lack what others have")
    kinds: dict[str, set[tuple[type, bool]]] = {}
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            scaled = isinstance(value, Tensor) and value.dim() > 0
            if scaled and value.shape != parameter.shape:
                raise ValueError("a tensor has another shape than its parameter")
            if value is not None and parameter.dim() > 0:
                kinds.setdefault(name, set()).add((type(value), scaled))
    if any(len(found) > 1 for found in kinds.values()):
        raise ValueError("what it holds for some parameters is of another type than for others")


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    if a is None or b is None:
        return True
    return isinstance(a, int | float) == isinstance(b, int | float) and (
        isinstance(a, int | float) or type(a) is type(b)
    )
