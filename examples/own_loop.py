"""Guidance in a loop of one's own: most images know nothing but their class, a quarter also a box."""

from __future__ import annotations

import torch
from data import CLASSES, collate, squares
from torch.utils.data import DataLoader

from guidance import GuidedLoss, evaluate, front
from guidance.models import build_model

torch.manual_seed(0)
net = build_model("resnet8", num_classes=3)
loss = GuidedLoss(net, "energy", weight=0.5, depth="final", reduction="mean", classification="cross_entropy")
optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
results = []
for _ in range(4):
    for images, targets, boxes in DataLoader(squares(96, annotated=0.25), 16, shuffle=True, collate_fn=collate):
        optimizer.zero_grad()
        loss(images, targets, boxes).loss.backward()
        optimizer.step()
    held_out = DataLoader(squares(48, seed=1), 16, collate_fn=collate)
    results.append(evaluate(net, held_out, depth="final", classification="cross_entropy", classes=CLASSES))
for result in front(results, ["accuracy", "epg"]):
    print(f"accuracy {result['accuracy']:.3f}, EPG {result['epg']:.3f}")
