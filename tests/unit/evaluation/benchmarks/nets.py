"""A net whose evidence is known: each class looks at one channel, so that its map lies where that channel is bright."""

from __future__ import annotations

import torch
from torch import nn

from guidance.models.classifier import Classifier


def build_looking(classes: int = 4) -> Classifier:
    """Logit k is the mean of channel k of the image."""
    conv = nn.Conv2d(classes, classes, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(classes)[:, :, None, None])
    head = nn.Linear(classes, classes, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(classes))
    net = nn.ModuleDict({"conv": conv, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": head})
    return Classifier(net, {"final": ("conv",), "logits": ("pool", "flat", "fc")}).eval()
