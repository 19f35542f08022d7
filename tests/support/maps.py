"""A map and a mask whose scores are easily worked out, and a loss with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.losses import LOCALIZATION_LOSSES

MAP = torch.tensor([[4.0, -2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0]])

BOX = torch.zeros(4, 4, dtype=torch.bool)
BOX[:2, :2] = True


def box(top: int, bottom: int, left: int, right: int, size: int = 4) -> Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def value_and_gradient(name: str, attribution: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    attribution = attribution.clone().requires_grad_()
    value = LOCALIZATION_LOSSES[name].function(attribution, mask)
    (gradient,) = torch.autograd.grad(value.sum(), attribution)
    return value.detach(), gradient
