"""Nets as users have them, built by functions of a module that configs name: `tests.unit.models.sources.own:NAME`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from guidance.models import Classifier


class Block(nn.Module):
    """Half as many cells a side, with a connection past its last layer."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs)
        self.activation, self.last = nn.Hardswish(inplace=True), nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.bn(self.conv(x)))
        y: Tensor = x + self.last(x)
        return y


class Pyramid(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second, self.third = Block(3, 6), Block(6, 8), Block(8, 10)
        self.head = nn.Linear(10, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.third(self.second(self.first(images))).mean((2, 3)))
        return logits


class Untraceable(Pyramid):
    """Looks at values, so that it has no graph, nor can it be run without them."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(-images if images.abs().sum() < 0 else images)


class Loose(nn.Module):
    """Its layers are called between operations that are no layers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.silu(self.bn1(self.conv1(images))) * 1.5 + 0.1
        y = self.conv2(x)
        logits: Tensor = self.head((functional.gelu(self.bn2(y)) + y).mean((2, 3)))
        return logits


class TwoHeads(Pyramid):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.second_head = nn.Linear(10, num_classes)


def with_depths(num_classes: int) -> Classifier:
    """Says itself where it can be explained."""
    stages = {"early": ["first"], "late": ["second", "third"], "logits": [lambda x: x.mean((2, 3)), "head"]}
    return Classifier(Pyramid(num_classes), stages)


def of_two(num_classes: int) -> nn.Module:
    return Pyramid(2)


NO_FUNCTION = "a text"
