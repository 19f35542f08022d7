"""The pieces of a traced net between its cuts, as operations of a `Classifier`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from guidance.models.classifier import Operation
from guidance.models.layers.twice import FUNCTIONS
from guidance.models.pullback.rules import Explained, Layer
from guidance.models.wrapping.tracing import NetGraph


class Copy(Layer):
    """A copy, for what will be written into."""

    def explain(self, x: Tensor) -> Explained:
        return x.clone(), lambda grad, rows=None: grad


class ModeSwitch:
    """A piece of a net that does one thing in training and another one in evaluation."""

    def __init__(self, net: nn.Module, training: Sequence[Operation], evaluation: Sequence[Operation]) -> None:
        self.net, self.training, self.evaluation = net, training, evaluation

    def modules(self) -> Iterator[nn.Module]:
        """Whatever it may run."""
        return self.net.modules()

    def __call__(self, x: Tensor) -> Tensor:
        for operation in self.training if self.net.training else self.evaluation:
            x = self.net.get_submodule(operation)(x) if isinstance(operation, str) else operation(x)
        return x


def operations(net: nn.Module, trace: NetGraph, start: fx.Node, stop: fx.Node) -> list[Operation]:
    """What leads from the cut `start` to the cut `stop`, as fine as cuts allow: names of layers, and functions."""
    cuts = trace.cuts()
    between = cuts[cuts.index(start) : cuts.index(stop) + 1]
    return [_operation(net, trace, *ends) for ends in pairwise(between)]


def same(some: Sequence[Operation], others: Sequence[Operation]) -> bool:
    """Whether two lists of operations do the same."""
    return [_description(x) for x in some] == [_description(x) for x in others]


def _description(operation: Operation) -> str:
    return str(getattr(operation, "source", operation))


def _operation(net: nn.Module, trace: NetGraph, start: fx.Node, stop: fx.Node) -> Operation:
    alone = stop.all_input_nodes == [start]
    if alone and stop.op == "call_module" and stop.args == (start,) and not stop.kwargs:
        return str(stop.target)
    layer = _as_layer(stop, start) if alone else None
    return layer or _function(net, trace, start, stop)


def _as_layer(node: fx.Node, given: fx.Node) -> nn.Module | None:
    """The layer that does what a function does, where pullbacks know it."""
    rest = (*node.args[1:], *node.kwargs.values())
    if node.args[:1] != (given,):
        return None
    if node.target in (functional.relu, torch.relu, "relu"):
        return nn.ReLU()
    if node.target in (torch.flatten, "flatten") and rest == (1,):
        return nn.Flatten()
    if node.target is functional.adaptive_avg_pool2d and rest in ((1,), ((1, 1),)):
        return nn.AdaptiveAvgPool2d(1)
    return None


def _function(net: nn.Module, trace: NetGraph, start: fx.Node, stop: fx.Node) -> Operation:
    """A part of the forward of `net` as a method of it, so that layers and weights are looked up whenever it is called.

    (An fx.GraphModule holds the layers that the net has when it is made, and copies of the references to its buffers; it would
    not follow batch norms that are converted, nor a net that moves to another device.)
    """
    part = fx.Graph()
    known: dict[fx.Node, fx.Node] = {start: part.placeholder("x")}
    for node in _needed(trace, start, stop):
        copy = part.node_copy(node, known.__getitem__)
        copy.target = FUNCTIONS.get(copy.target, copy.target) if callable(copy.target) else copy.target
        known[node] = copy
    part.output(known[stop])
    code = part.python_code("self")
    names: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, f"<a piece of {type(net).__name__}>", "exec"), names)
    forward: Callable[..., Tensor] = names["forward"]
    forward.__name__ = stop.name
    forward.source = code.src  # type: ignore[attr-defined]
    forward.layers = [str(node.target) for node in part.nodes if node.op == "call_module"]  # type: ignore[attr-defined]
    return MethodType(forward, net)


def _needed(trace: NetGraph, start: fx.Node, stop: fx.Node) -> list[fx.Node]:
    """Nodes that `stop` is computed from when `start` is known, in order; and checks of shapes between the two."""
    order = {node: i for i, node in enumerate(trace.graph.nodes)}

    def closure(node: fx.Node) -> set[fx.Node]:
        new, waiting = set(), [node]
        while waiting:
            one = waiting.pop()
            if one is not start and one not in new:
                new.add(one)
                waiting += one.all_input_nodes
        return new

    found = closure(stop)
    for node in trace.graph.nodes:
        if node.target is torch._assert and order[start] < order[node] < order[stop]:
            checked = closure(node)
            if all(one.op != "placeholder" for one in checked):
                found |= checked
    return sorted(found, key=order.__getitem__)
