"""Modes of a net: all of it in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import nn


class HasModules(Protocol):
    """A net, or what stands for one."""

    def modules(self) -> Iterator[nn.Module]: ...


@contextmanager
def evaluation_mode(model: HasModules) -> Iterator[None]:
    """Every module in evaluation mode inside the block, and back in its own mode after it, also after an exception."""
    modes: list[tuple[nn.Module, bool]] = [(module, module.training) for module in model.modules()]
    # The attribute, not train(): nets that keep some layers frozen override it, and it would undo single choices.
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
