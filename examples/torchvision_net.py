"""From a net of torchvision to a map of an image in three lines, and to a guided step in ten. The image is a file."""

from __future__ import annotations

import sys

import torch
import torchvision

from guidance import GuidedLoss, Preprocessing, explain, wrap

# A map of the predicted class: three lines.
net = wrap(torchvision.models.mobilenet_v3_small(num_classes=3))
found = explain(net, sys.argv[1], preprocess=Preprocessing(size=224))
found.overlay().save("map.png")

# A guided step, on two images of which the first has a box: seven more.
loss = GuidedLoss(net, "energy", weight=0.5, depth="mid3", reduction="mean", classification="cross_entropy")
optimizer = torch.optim.Adam(loss.parameters(), lr=1e-4)
images, labels = torch.rand(2, 3, 224, 224), torch.tensor([0, 2])
boxes = [torch.tensor([[40.0, 40.0, 120.0, 160.0]]), None]
step = loss(images, labels, boxes)
step.loss.backward()
optimizer.step()
print(f"depths {', '.join(net.depths)}; loss {float(step.loss.detach()):.3f}")
