"""Layers with a pullback, and the comparison of a gradient with finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guidance.models.bcos.modules import BcosConv2d, BcosLinear
from guidance.models.bcos.norms import BatchNormUncentered2d, image_norm, layer_norm, position_norm
from guidance.models.bcos.vit import Attention

LAYERS = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5)),
    "conv_strided": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), groups=2), (4, 6, 7)),
    "conv_dilated": (lambda: nn.Conv2d(4, 2, 3, dilation=2, padding=2, stride=2), (4, 7, 6)),
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "relu": (nn.ReLU, (2, 3, 3)),
    "max_pool": (lambda: nn.MaxPool2d(3, 2, 1), (2, 6, 7)),
    "average_pool": (lambda: nn.AvgPool2d(3, 2, 1), (2, 6, 7)),
    "bcos_conv": (lambda: BcosConv2d(4, 6, 3, padding=1), (4, 5, 5)),
    "bcos_conv_strided": (lambda: BcosConv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), groups=2), (4, 6, 7)),
    "bcos_conv_dilated": (lambda: BcosConv2d(4, 2, 3, dilation=2, padding=2, stride=2), (4, 7, 6)),
    "bcos_conv_point": (lambda: BcosConv2d(4, 6, 1, stride=2), (4, 5, 5)),
    "bcos_conv_wide_padding": (lambda: BcosConv2d(2, 3, 2, padding=2), (2, 4, 4)),
    "bcos_conv_b1": (lambda: BcosConv2d(4, 6, 3, b=1), (4, 5, 5)),
    "bcos_conv_b2.5": (lambda: BcosConv2d(4, 6, 3, b=2.5), (4, 5, 5)),
    "bcos_conv_max_out": (lambda: BcosConv2d(4, 6, 3, max_out=3), (4, 5, 5)),
    "bcos_conv_max_out_groups_b3": (lambda: BcosConv2d(4, 6, 3, max_out=2, groups=2, b=3), (4, 5, 5)),
    "bcos_linear": (lambda: BcosLinear(5, 3), (2, 3, 5)),
    "bcos_linear_vector": (lambda: BcosLinear(5, 3, b=1.5), (5,)),
    "bcos_linear_max_out": (lambda: BcosLinear(5, 3, max_out=2), (2, 3, 5)),
    "batch_norm_uncentered": (lambda: BatchNormUncentered2d(3), (3, 4, 4)),
    "layer_norm": (lambda: layer_norm(5), (2, 3, 5)),
    "position_norm": (lambda: position_norm(5), (5, 2, 3)),
    "position_norm_uncentered": (lambda: position_norm(5, centered=False), (5, 2, 3)),
    "image_norm": (lambda: image_norm(5), (5, 2, 3)),
    "attention": (lambda: Attention(8, 2), (2, 3, 8)),
}


def randomised(layer: nn.Module) -> nn.Module:
    layer = layer.double()
    for value in layer.state_dict().values():
        if value.dim() == 1 and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return layer


def check_gradient(loss: object, tensors: list[Tensor], *, step: float = 1e-6, tolerance: float = 1e-6) -> None:
    """The gradient of `loss` in two random directions of all `tensors` equals central differences."""
    assert callable(loss)
    for tensor in tensors:
        tensor.grad = None
    loss().backward()
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]
        exact = sum(float((t.grad * d).sum()) for t, d in zip(tensors, direction, strict=True) if t.grad is not None)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for t, d in zip(tensors, direction, strict=True):
                    t.add_(d, alpha=sign * step)
            values.append(float(loss().detach()))
            with torch.no_grad():
                for t, d in zip(tensors, direction, strict=True):
                    t.sub_(d, alpha=sign * step)
        assert exact == pytest.approx((values[0] - values[1]) / (2 * step), rel=tolerance, abs=1e-7)
