"""Layers that torch cannot differentiate twice, which a loss on attributions needs, and equal ones that it can."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Hardsigmoid(nn.Module):
    """relu6(x + 3) / 6, as torch's, which has no second derivative (torch 2.15)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu6(x + 3) / 6


class Hardswish(nn.Module):
    """x * relu6(x + 3) / 6, as torch's, which has no second derivative in older releases (torch 2.6)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.relu6(x + 3) / 6


EQUALS: dict[type[nn.Module], type[nn.Module]] = {nn.Hardsigmoid: Hardsigmoid, nn.Hardswish: Hardswish}


def make_twice_differentiable(net: nn.Module) -> dict[nn.Module, nn.Module]:
    """Replace the layers of `net` that have an equal one in `EQUALS`, in place; none of them has weights.

    Returns old layer -> new one, for who holds the old ones.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in EQUALS:
                setattr(parent, name, replaced.setdefault(child, EQUALS[type(child)]()))
    return replaced
