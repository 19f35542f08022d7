"""Pullbacks: how an attribution passes back through a net as ordinary first-order operations.

A net that is linear around its input (piecewise, as ReLU nets without batch statistics, or dynamically, as B-cos nets) is
y = W(x) x + b. The rows of W(x) explain it. Autograd gives them as a gradient, and training through them then takes a
double backward. Here each layer's `explain` returns, beside its output, its pullback: the function grad -> W(x)^T grad,
made of operations that autograd differentiates once. Composed, the pullbacks of the layers are the pullback of the net.

To add a layer, write a `Layer` with one method `explain`, or register a function for a class that is not yours:

    @explain.register
    def _(layer: nn.Softsign, x: Tensor) -> Explained: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, singledispatch
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

Rows = Tensor | slice | None  # of a batch: [R] long, or those that lie one behind the other, or every one


class Pullback(Protocol):
    """W(x)^T for the rows of the batch named by `rows` (None: every row, once; in a tensor [R] a row may be repeated).

    `grad` [R, ...] in the shape of the layer's output -> [R, ...] in the shape of its input. Nothing here is in place, and
    what depends on x stays in the graph, so a loss on the result trains the weights behind W(x).
    """

    def __call__(self, grad: Tensor, rows: Rows = None) -> Tensor: ...


Explained = tuple[Tensor, Pullback | None]  # output, and its pullback where the layer offers one in its current mode


class Answered:
    """A pullback that was asked beforehand: it has the gradient of one request, or of none."""

    def __init__(self, gradient: Tensor | None) -> None:
        self.gradient = gradient

    def __call__(self, grad: Tensor, rows: Rows = None) -> Tensor:
        gradient, self.gradient = self.gradient, None
        if gradient is None:
            raise ValueError("a compiled net answers the one request that it was given, and was asked a second time")
        return gradient


class Layer(nn.Module):
    """A layer that is written once, as its output and its pullback side by side."""

    dynamic: ClassVar[bool] = False  # whether W(x) has factors that depend on x, so that it is not the gradient

    def explain(self, x: Tensor) -> Explained:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.explain(x)[0]


@singledispatch
def explain(layer: Any, x: Tensor) -> Explained:
    """`layer(x)` and its pullback; None for a layer (module or function) about which nothing is known."""
    return layer.explain(x) if isinstance(layer, Layer) else (layer(x), None)


def register(rules: Mapping[type, Callable[[Any, Tensor], Explained]]) -> None:
    """Make rules known for their kinds of layers; a subclass with a forward of its own is a layer of which nothing is known."""
    for kind, rule in rules.items():
        explain.register(kind, partial(_explain_own, kind, rule))


def _explain_own(kind: Any, rule: Callable[[Any, Tensor], Explained], layer: Any, x: Tensor) -> Explained:
    return rule(layer, x) if type(layer).forward is kind.forward else (layer(x), None)


def compose(*pullbacks: Pullback | None) -> Pullback | None:
    """The pullback of layers that ran in this order; None where one of them has none."""
    known = [p for p in pullbacks if p is not None]
    if len(known) < len(pullbacks):
        return None

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        for step in reversed(known):
            grad = step(grad, rows)
        return grad

    return pullback


# Two layers that are cheaper as one step: (type of the first, type of the second) -> their explanation together.
PAIRS: dict[tuple[type, type], Callable[[Any, Any, Tensor], Explained]] = {}


def chain(x: Tensor, layers: Sequence[Any]) -> Explained:
    """Layers one after the other; none at all is the identity."""
    pullbacks, rest = [], list(layers)
    while rest:
        layer = rest.pop(0)
        pair = PAIRS.get((type(layer), type(rest[0]))) if rest else None
        x, step = pair(layer, rest.pop(0), x) if pair else explain(layer, x)
        pullbacks.append(step)
    return x, compose(*pullbacks)


def residual(x: Tensor, main: Sequence[Any], shortcut: Sequence[Any] = ()) -> Explained:
    """The sum of two chains on the same input."""
    y, through_main = chain(x, main)
    z, through_shortcut = chain(x, shortcut)
    if through_main is None or through_shortcut is None:
        return y + z, None

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        return through_main(grad, rows) + through_shortcut(grad, rows)

    return y + z, pullback


def concatenate(x: Tensor, branch: Sequence[Any]) -> Explained:
    """The input, and after it along the channels what a chain makes of it (DenseNet)."""
    new, through_branch = chain(x, branch)
    y = torch.cat((x, new), dim=1)
    if through_branch is None:
        return y, None
    channels = x.shape[1]

    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        return grad[:, :channels] + through_branch(grad[:, channels:], rows)

    return y, pullback


def rearrange(x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Explained:
    """A change of layout and its inverse."""
    return there(x), lambda grad, rows=None: back(grad)


def pick(x: Tensor, rows: Rows) -> Tensor:
    """The rows of a batch [B, ...] that a pullback is asked for: [R, ...]."""
    if rows is None:
        return x
    if isinstance(rows, slice):
        return x[rows]
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        # Selection answers in the default layout, and its backward too, to be added to gradients in the other one.
        return x.movedim(1, 3).index_select(0, rows).movedim(3, 1)
    return x.index_select(0, rows)
