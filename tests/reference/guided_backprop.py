"""Guided Backprop by activations whose backward pass is written out."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from guidance.models.classifier import Classifier


class SlowRule(torch.autograd.Function):
    """An activation whose backward pass is written out, with the guided rule at its end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kind = kind
        return x.clamp(min=0) if kind == "relu" else x * normal_cdf(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = (
            (x > 0).to(x) if ctx.kind == "relu" else normal_cdf(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        )
        leaving = grads[0] * slope
        return torch.where(leaving > 0, leaving, 0.0), None


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


class SlowActivation(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = SlowRule.apply(x, self.kind)
        return result


def slow_guided_backprop(model: Classifier, x: Tensor, depth: str, image: Tensor, target: Tensor) -> Tensor:
    """A copy of the net with every activation replaced, and its plain gradient [M, h, w], one pair at a time."""
    slow, replaced = copy.deepcopy(model), {}
    for module in list(slow.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.ReLU, nn.GELU)):
                kind = type(child).__name__.lower()
                setattr(module, name, replaced.setdefault(child, SlowActivation(kind)))
    assert replaced
    features = slow.lower(x, depth).detach()
    maps = []
    for row, label in zip(image.tolist(), target.tolist(), strict=True):
        leaf = features[row : row + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(slow.upper(leaf, depth).logits[0, label], leaf)
        maps.append(gradient[0].sum(0))
    return torch.stack(maps)
