"""The graph of a net (torch.fx), traced no deeper than the layers that are asked for, and the cuts in it.

A *cut* is a node that every path from the images to the logits passes through: the net can be restarted there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from guidance.models.classifier import evaluation_mode
from guidance.models.layers.twice import runs_own_forward


@dataclass(frozen=True)
class NetGraph:
    """The graph of a net in one mode."""

    graph: fx.Graph
    images: fx.Node
    logits: fx.Node
    layers: Mapping[str, fx.Node]  # name of a layer that was met -> what its last call returned
    leaves: frozenset[str]  # those of them into which the graph does not look

    def cuts(self) -> list[fx.Node]:
        """From the images to the logits, both of which are cuts."""
        relevant = _after(self.images) & _before(self.logits)
        order = {node: i for i, node in enumerate(self.graph.nodes) if node in relevant}
        found, furthest = [], 0
        for node, place in order.items():
            if place >= furthest:  # no edge leads past it
                found.append(node)
            furthest = max([furthest, *(order[user] for user in node.users if user in order)])
        return found


class _Tracer(fx.Tracer):
    """Looks into the modules for which `opened` says so; one that cannot be traced is a leaf too."""

    def __init__(self, opened: Callable[[str, nn.Module], bool]) -> None:
        super().__init__()
        self._opened = opened
        self.layers: dict[str, fx.Node] = {}
        self.leaves: set[str] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Hooks of others would be run once, on what stands for a tensor, and never again.
        hooked = bool(m._forward_hooks or m._forward_pre_hooks)
        return hooked or not self._opened(module_qualified_name, m)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        name = self.path_of_module(m)
        output = None
        if not self.is_leaf_module(m, name):
            try:
                with _no_constants(self.root):
                    output = super().call_module(m, forward, args, kwargs)
            except Exception:
                # Whatever it does with what stands for a tensor; nodes that it left lead nowhere.
                output = None
        if output is None:
            output = self.create_proxy("call_module", name, args, kwargs)
            self.leaves.add(name)
        if isinstance(output, fx.Proxy):
            self.layers.pop(name, None)  # the last call counts, also for the order
            self.layers[name] = output.node
        return output


@contextmanager
def _no_constants(root: nn.Module) -> Iterator[None]:
    """Raises ValueError where a trace left tensors, made in a forward, in `root`: they would not follow it to a device."""
    before = set(vars(root))
    try:
        yield
        if new := set(vars(root)) - before:
            raise ValueError(f"constants {new} in the graph")
    finally:
        for name in set(vars(root)) - before:
            delattr(root, name)


def trace(net: nn.Module, opened: Callable[[str, nn.Module], bool], *, training: bool) -> NetGraph | None:
    """The graph of `net` in that mode, of which only its first argument counts; None where it cannot be traced.

    `opened` (name, module) says which modules are looked into.
    """
    if net._forward_hooks or net._forward_pre_hooks or not runs_own_forward(net):
        return None
    tracer = _Tracer(opened)
    try:
        with evaluation_mode(net), _no_constants(net):
            for module in net.modules():
                module.training = training
            graph = tracer.trace(net, _defaults(net))
    except Exception:
        return None
    images = next(node for node in graph.nodes if node.op == "placeholder")
    logits = next(node for node in graph.nodes if node.op == "output").args[0]
    if isinstance(logits, fx.Node) and "logits" in getattr(logits.target, "_fields", ()):  # a named tuple
        logits = logits.args[logits.target._fields.index("logits")]  # type: ignore[union-attr]
    if not isinstance(logits, fx.Node):
        return None
    return NetGraph(graph, images, logits, tracer.layers, frozenset(tracer.leaves))


def logits_of(output: Any) -> Any:
    """What a net returns is its logits, or has them under that name (torchvision's nets with auxiliary classifiers)."""
    return getattr(output, "logits", output)


def containing(names: Collection[str]) -> Callable[[str, nn.Module], bool]:
    """`opened` for the graph that has the layers of these names as leaves: what contains one is looked into."""
    return lambda name, module: any(other.startswith(f"{name}.") for other in names)


def _defaults(net: nn.Module) -> dict[str, Any]:
    """The arguments of the forward but the first, where they have a value."""
    given = list(inspect.signature(type(net).forward).parameters.values())[2:]
    return {x.name: x.default for x in given if x.default is not inspect.Parameter.empty}


def _after(node: fx.Node) -> set[fx.Node]:
    return _reached(node, lambda x: x.users)


def _before(node: fx.Node) -> set[fx.Node]:
    return _reached(node, lambda x: x.all_input_nodes)


def _reached(start: fx.Node, following: Callable[[fx.Node], Any]) -> set[fx.Node]:
    found, waiting = {start}, [start]
    while waiting:
        new = [node for node in following(waiting.pop()) if node not in found]
        found.update(new)
        waiting += new
    return found
