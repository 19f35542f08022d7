"""From a net to a map of an image. Without an argument the image is drawn by chance; else it is the file of that name."""

from __future__ import annotations

import sys

import numpy as np

from guidance import Preprocessing, explain
from guidance.models import build_model

image = sys.argv[1] if len(sys.argv) > 1 else np.random.default_rng(0).random((80, 120, 3))
net = build_model("resnet18", num_classes=1000)  # weights="imagenet" downloads torchvision's

found = explain(net, image, preprocess=Preprocessing(size=224))
found.overlay().save("map.png")
print(f"map.png: where the evidence for class {found.names[0][0]} ({float(found.probabilities.max()):.3f}) lies")
