"""Maps of (image, class) pairs, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from guidance import attribution
from guidance.attribution import Method, Request, one_hot
from guidance.types import Forward


def attribute(
    method: str | Method | Callable[..., Tensor],
    model: Any,
    out: Forward,
    depth: str,
    image: Tensor,
    target: Tensor,
    *,
    create_graph: bool,
    rounds: int | None = None,
) -> Tensor:
    """The maps [M, h, w] of the classes `target` [M] of the rows `image` [M]; a function is a method without further traits."""
    chosen = method if isinstance(method, str | Method) else Method(method)
    seed = one_hot(target, out.logits.shape[1]) if isinstance(out, Forward) else Tensor()
    return attribution.attribute(
        model, Request(chosen, depth, image, seed, create_graph=create_graph, rounds=rounds, out=out)
    )
