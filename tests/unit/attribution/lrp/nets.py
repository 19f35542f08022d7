"""Small nets with norms, sums and concatenations, in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet, _DenseBlock
from torchvision.models.resnet import BasicBlock, ResNet

from guidance.attribution import Request, explain, method_of, one_hot
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import densenet


def alive(net: nn.Module, *, biases: bool = True) -> nn.Module:
    """Norms that have seen something, some with negative scales; without `biases` f(a x) = a f(x)."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.weight, 0.5)
            nn.init.normal_(module.bias, std=0.3 * biases)
            nn.init.normal_(module.running_mean, std=0.3 * biases)  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.3 * biases)
    return net.double().eval()


def residual(*, biases: bool = True) -> Classifier:
    """Convolution, norm, ReLU, max pooling, residual block, mean, classifier; images 2 x 6 x 6."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), BasicBlock(3, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4),
    )  # fmt: skip
    alive(net, biases=biases)
    return Classifier(net, {"mid1": ["0", "1", "2", "3"], "final": ["4"], "logits": ["5", "6", "7"]}).eval()


def dense(*, biases: bool = True) -> Classifier:
    """Convolution, a block of two dense layers, norm and ReLU, mean, classifier; images 2 x 5 x 5."""
    block = _DenseBlock(2, 3, bn_size=2, growth_rate=2, drop_rate=0.0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, stride=2), block, nn.BatchNorm2d(7), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(7, 4),
    )  # fmt: skip
    alive(net, biases=biases)
    return Classifier(net, {"mid1": ["0", "1"], "final": ["2", "3"], "logits": ["4", "5", "6"]}).eval()


def torchvision_densenet(*, biases: bool = True) -> Classifier:
    return densenet(alive(DenseNet(4, (1, 2, 1, 1), 6, num_classes=4), biases=biases)).eval()


def small_resnet(norm_layer: type[nn.Module] = nn.BatchNorm2d) -> ResNet:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4, norm_layer=norm_layer)


def images_of(name: str) -> Tensor:
    """Two images for the net `name`."""
    side = {"residual": 6, "dense": 5}.get(name)
    return torch.randn(2, 3 if side is None else 2, side or 32, side or 32, dtype=torch.float64)


def relevance(model: Classifier, x: Tensor, depth: str, composite: str, *targets: int) -> Tensor:
    """The map of a class for each image."""
    method = method_of("lrp").bind({"composite": composite})
    seed = one_hot(torch.tensor(targets), 4)
    return explain(model, x, Request(method, depth, torch.arange(len(targets)), seed)).maps
