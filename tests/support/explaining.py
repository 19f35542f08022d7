"""Maps of (image, class) pairs of small nets, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance import attribution
from guidance.attribution import ATTRIBUTIONS, Method, Request, one_hot
from guidance.models.classifier import Classifier
from guidance.types import Forward

DEPTHS = ("input", "mid1", "mid2", "final")  # of tests.support.nets.tiny
# Those that a loss can be trained through and any net can give; the others have tests of their own.
each_method = pytest.mark.parametrize(
    "method", [name for name, row in ATTRIBUTIONS.items() if row.trainable and "attention" not in row.needs]
)
each_depth = pytest.mark.parametrize("depth", DEPTHS)


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


def images(batch: int = 3, channels: int = 2) -> Tensor:
    return torch.randn(batch, channels, 6, 6, dtype=torch.float64).requires_grad_()


def pairs(*values: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The pairs (image, class) as the arguments `image` [M] and `target` [M]."""
    return tuple(torch.tensor(values, dtype=torch.long).reshape(-1, 2).unbind(1))  # type: ignore[return-value]


def maps(method: str, model: Classifier, x: Tensor, depth: str, *which: tuple[int, int]) -> Tensor:
    """The maps [M, h, w] of the pairs `which` of images `x`, with a graph."""
    return attribute(method, model, model(x), depth, *pairs(*which), create_graph=True)
