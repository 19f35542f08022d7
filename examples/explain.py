"""From a net to a map of an image. Without an argument the image is drawn by chance; else it is the file of that name."""

from __future__ import annotations

import sys

import numpy as np
from torchvision.models import resnet18

from guidance import Preprocessing, explain, wrap

image = sys.argv[1] if len(sys.argv) > 1 else np.random.default_rng(0).random((80, 120, 3))
net = wrap(resnet18())  # with weights="IMAGENET1K_V1", torchvision downloads them

found = explain(net, image, preprocess=Preprocessing(size=224))
found.overlay().save("map.png")
print(f"map.png: where the evidence for class {found.names[0][0]} ({float(found.probabilities.max()):.3f}) lies")
