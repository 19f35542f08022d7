"""Nets with ReLUs and GELUs, the pairs that are explained, and how."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import CONVNEXT_STAGES, RESNET_STAGES
from tests.support.explaining import attribute
from tests.support.nets import global_average

IMAGE, TARGET = torch.tensor([0, 1, 1, 2]), torch.tensor([3, 0, 2, 1])
METHODS = ("guided_backprop", "guided_gradcam")


def explain(method: str, model: Classifier, x: Tensor, depth: str = "input") -> Tensor:
    out = model.explainable(x, depth)
    return attribute(method, model, out, depth, IMAGE, TARGET, create_graph=False)


def residual_net(activation: nn.Module) -> Classifier:
    """One activation module for all places, one of them inside a residual sum; depths input, mid, final."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = activation
            self.inner, self.outer = nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.outer(self.act(self.inner(self.act(x))))
            return self.act(y) + 0.5 * y

    net = nn.Sequential(nn.Conv2d(3, 5, 3), activation, Block(), Block(), nn.Linear(5, 4)).double()
    model = Classifier(net, {"mid": ["0", "1"], "final": ["2", "3"], "logits": [global_average, "4"]})
    return model.eval()


def resnet() -> Classifier:
    net = resnet18(num_classes=4).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return Classifier(net, RESNET_STAGES).eval()


def convnext() -> Classifier:
    settings = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, 20, 1), CNBlockConfig(20, None, 1)]
    net = ConvNeXt(settings, layer_scale=1.0, num_classes=4).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Classifier(net, CONVNEXT_STAGES).eval()
