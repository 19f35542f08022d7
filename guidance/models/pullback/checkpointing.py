"""Activation checkpointing (Chen et al. 2016): a segment of a net keeps its input alone, and is run again where more is needed.

In a step that is not guided that is once, in the backward pass. A pullback needs it twice more: when it is called, and when
autograd goes back through it. What a net computes a second time must be what it computed the first time, so a segment is run
again in the same autocast, with the same sample keys, and without touching running statistics. (Draws from torch's generator
are repeated in the backward pass by torch; a layer that makes them must offer no pullback.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from guidance.models.layers.noise import Keyed
from guidance.models.pullback.rules import Explained, Rows, chain, compose


def checkpointed(x: Tensor, layers: Sequence[Any]) -> Explained:
    """As `rules.chain`, keeping of each of its `segments` the input alone."""
    pullbacks = []
    for segment in segments(layers):
        x, pullback = _segment(x, segment)
        pullbacks.append(pullback)
    return x, compose(*pullbacks)


def segments(layers: Sequence[Any]) -> list[list[Any]]:
    """What is run again as one: each layer of a sequence, such as a residual block, and neighbours that are no sequence."""
    found: list[list[Any]] = []
    together = False
    for layer in layers:
        if type(layer) is nn.Sequential:
            found += [[part] for part in layer]
            together = False
        elif together:
            found[-1].append(layer)
        else:
            found.append([layer])
            together = True
    return found


def _segment(x: Tensor, layers: Sequence[Any]) -> Explained:
    again = _as_now(layers, x.device.type)
    offered: list[bool] = []  # whether there is a pullback, of every run; the first run alone tracks statistics

    def output(x: Tensor) -> Tensor:
        with again() if offered else nullcontext():
            y, pullback = chain(x, layers)
        offered.append(pullback is not None)
        return y

    y: Tensor = checkpoint(output, x, use_reentrant=False)
    if not offered[0]:
        return y, None

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        def pulled(grad: Tensor, x: Tensor) -> Tensor:
            with again():
                through = chain(x, layers)[1]
            assert through is not None
            return through(grad, rows)

        result: Tensor = checkpoint(pulled, grad, x, use_reentrant=False)
        return result

    return y, pullback


def _as_now(layers: Sequence[Any], device: str) -> Callable[[], AbstractContextManager[None]]:
    """What to run `layers` again in, so that they do what they do now, and what they write into their buffers is lost.

    A layer may be a method of the net that it is a part of (`guidance.models.wrapping.pieces`).
    """
    owners = [getattr(layer, "__self__", layer) for layer in layers]
    modules = [module for owner in owners if hasattr(owner, "modules") for module in owner.modules()]
    keys = [(module, module.keys) for module in modules if isinstance(module, Keyed)]
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    @contextmanager
    def again() -> Iterator[None]:
        buffers = [(module, name, x) for module in modules for name, x in module.named_buffers(recurse=False)]
        for module, name, buffer in buffers:
            setattr(module, name, buffer.clone())
        for layer, own in keys:
            layer.keys = own
        try:
            with torch.autocast(device, dtype, enabled=enabled):
                yield
        finally:
            for module, name, buffer in buffers:
                setattr(module, name, buffer)
            for layer, _ in keys:
                layer.keys = None

    return again
