"""From the pullbacks of a net's stages to those of its depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from guidance.allocator import keeps_freed_memory
from guidance.models.pullback.dynamic import compiling
from guidance.models.pullback.rules import Pullback, Rows, compose

# Whether the process keeps freed memory -> bytes of the largest state of a stage that are pulled back at once on a CPU. Fewer
# rows make slower convolutions, more of them hold more memory. Where none is kept, glibc takes blocks of more than 32 MB from
# the kernel and gives them back each time, which costs as much as the arithmetic on them.
PART = {True: 2**27, False: 2**25}


def above(states: Mapping[str, Tensor], logits: Tensor, steps: Sequence[Pullback | None]) -> dict[str, Pullback]:
    """Depth -> the pullback from the logits to it, where every stage above it offers one.

    `states`: depth -> the state there, from the lowest; `steps`: the pullbacks of the stages that begin at them. Where autograd
    records nothing on a CPU, rows are divided; otherwise all that a pass needs is kept anyway.
    """
    sizes = [x[:1].numel() * x.element_size() for x in (*states.values(), logits)]
    part = PART[keeps_freed_memory()]
    most = [max(1, part // max(ends, 1)) for ends in map(max, pairwise(sizes))]
    in_parts = not torch.is_grad_enabled() and logits.device.type == "cpu" and not compiling()
    result: dict[str, Pullback] = {}
    for i, depth in enumerate(states):
        known = [step for step in steps[i:] if step is not None]
        if len(known) == len(steps) - i:
            composed = compose_in_parts(known, most[i:]) if in_parts else compose(*known)
            assert composed is not None
            result[depth] = composed
    return result


def compose_in_parts(pullbacks: Sequence[Pullback], most: Sequence[int]) -> Pullback:
    """The pullback of stages that ran in this order, none of which is given more rows at once than its entry of `most`.

    Where rows are divided, each part goes all the way down before the next, in the buffers that the last one left.
    """
    stages = list(zip(pullbacks, most, strict=True))
    return lambda grad, rows=None: _down(stages, grad, rows)


def _down(stages: Sequence[tuple[Pullback, int]], grad: Tensor, rows: Rows) -> Tensor:
    # No closure that calls itself: it would keep the features of a batch until the next collection of cycles.
    if not stages:
        return grad
    *below, (pullback, most) = stages
    if len(grad) <= most:
        return _down(below, pullback(grad, rows), rows)
    parts = grad.chunk(-(-len(grad) // most))
    named = divided(rows, [len(part) for part in parts])
    return torch.cat([_down(stages, part, some) for part, some in zip(parts, named, strict=True)])


def divided(rows: Rows, sizes: Sequence[int]) -> list[Rows]:
    """`rows` in parts of these sizes; those that lie one behind the other become a slice, which copies nothing."""
    if not isinstance(rows, Tensor):
        first = 0 if rows is None else rows.start
        rows = torch.arange(first, first + sum(sizes))
    return [
        slice(int(part[0]), int(part[0]) + len(part)) if bool((part.diff() == 1).all()) else part
        for part in torch.split(rows, list(sizes))
    ]
