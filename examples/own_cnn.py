"""From a CNN of one's own to a map of an image in three lines, and to a guided step in ten. The image is a file."""

from __future__ import annotations

import sys

import torch
from torch import nn

from guidance import GuidedLoss, Preprocessing, explain, wrap

layers = [nn.Conv2d(3, 16, 3, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=4), nn.ReLU()]
cnn = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))

# A map of the predicted class: three lines.
net = wrap(cnn)
found = explain(net, sys.argv[1], preprocess=Preprocessing(size=224))
found.overlay().save("map.png")

# A guided step, on two images of which the first has a box: seven more.
loss = GuidedLoss(net, "energy", weight=0.5, depth="mid1", reduction="mean", classification="cross_entropy")
optimizer = torch.optim.Adam(loss.parameters(), lr=1e-4)
images, labels = torch.rand(2, 3, 224, 224), torch.tensor([0, 2])
boxes = [torch.tensor([[40.0, 40.0, 120.0, 160.0]]), None]
step = loss(images, labels, boxes)
step.loss.backward()
optimizer.step()
print(f"depths {', '.join(net.depths)}; loss {float(step.loss.detach()):.3f}")
