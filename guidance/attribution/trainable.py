"""Whether a loss on an attribution can be trained through a net, found out before its backward pass fails inside torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guidance.attribution.request import Explainable

SHOWN = 3  # layers that are named


def check_trainable(model: nn.Module, attribution: Tensor, features: Tensor, depth: str) -> None:
    """Raise ValueError, which names the layers and the cure, where `attribution` cannot be differentiated once more."""
    if not _blocked(attribution):
        return
    layers = _blocking_layers(model, features, depth)
    named = ", ".join(f"{name} ({type(module).__name__})" for name, module in layers[:SHOWN])
    more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
    attention = any(isinstance(module, nn.MultiheadAttention) for _, module in layers)
    cure = (
        "run the forward pass inside `with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):`"
        if attention
        else "replace them by equal ones made of other operations (guidance/models/layers/twice.py has examples)"
    )
    raise ValueError(
        f"a loss on this attribution cannot be trained: torch has no second derivative of {named or 'an operation of this net'}"
        f"{more}; {cure}, or guide at a depth above them"
    )


def _blocked(output: Tensor) -> bool:
    """Whether the graph behind `output` holds a node whose derivative torch lacks."""
    waiting, seen = [] if output.grad_fn is None else [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if "NotImplemented" in node.name():
            return True
        waiting += [next_ for next_, _ in node.next_functions if next_ is not None]
    return False


class _Call(NamedTuple):
    """What a layer was given."""

    inputs: tuple[Tensor, ...]
    options: dict[str, Any]


def _blocking_layers(model: nn.Module, features: Tensor, depth: str) -> list[tuple[str, nn.Module]]:
    """The innermost layers above `depth` that block, each tried alone on what it gets."""
    assert isinstance(model, Explainable)
    calls: dict[str, _Call] = {}
    names = {module: name for name, module in model.named_modules() if name}

    def note(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        if given and all(isinstance(x, Tensor) and x.is_floating_point() for x in given):
            calls.setdefault(names[module], _Call(tuple(x.detach() for x in given), options))

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in names]
    try:
        with torch.enable_grad():
            model.upper(features.detach().requires_grad_(), depth)
    finally:
        for handle in handles:
            handle.remove()
    blocking: dict[str, nn.Module] = {}
    for name in sorted(calls, key=lambda name: -name.count(".")):  # inner layers first
        module = model.get_submodule(name)
        if not any(other.startswith(f"{name}.") for other in blocking) and _blocks(module, calls[name]):
            blocking[name] = module
    return [(name, blocking[name]) for name in calls if name in blocking]


def _blocks(module: nn.Module, call: _Call) -> bool:
    first, *others = call.inputs
    x = first.requires_grad_()
    # What was one tensor is one tensor again, as in attention.
    others = [x if other.data_ptr() == first.data_ptr() and other.shape == first.shape else other for other in others]
    try:
        with torch.enable_grad():
            found = module(x, *others, **call.options)
            outputs = [y for y in (found if isinstance(found, tuple) else (found,)) if isinstance(y, Tensor)]
            total = torch.stack([y.sum() for y in outputs if y.requires_grad]).sum()
            (gradient,) = torch.autograd.grad(total, x, create_graph=True, allow_unused=True)
    except RuntimeError:  # a layer that only works in its place says nothing here
        return False
    return gradient is not None and _blocked(gradient)
