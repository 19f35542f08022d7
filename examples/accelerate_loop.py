"""Guidance with accelerate: prepare the loss, which holds the net, instead of the net.

Micro batches: accelerate divides each loss by their number, because it takes them for means; multiply by it, and give the
counts of all of them.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from data import collate, squares
from torch.utils.data import DataLoader

from guidance import GuidedLoss, evaluate
from guidance.models import build_model

torch.manual_seed(0)
MICRO = 2
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO)
net = build_model("resnet8", num_classes=3)
guided = GuidedLoss(net, weight=0.5, depth="final", reduction="mean", classification="cross_entropy")
optimizer = torch.optim.Adam(guided.parameters(), lr=3e-3)
data = DataLoader(squares(96, annotated=0.25), 16, shuffle=True, collate_fn=collate)
loss, optimizer, data = accelerator.prepare(guided, optimizer, data)

for _ in range(4):
    for images, targets, boxes in data:
        counts = guided.counts(targets, boxes)  # of the whole batch, over all processes
        size = len(images) // MICRO
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            with accelerator.accumulate(loss):
                found = loss(images[part], targets[part], boxes[part], counts=counts)
                accelerator.backward(MICRO * found.loss)
                optimizer.step()
                optimizer.zero_grad()
share = squares(48, seed=1)[accelerator.process_index :: accelerator.num_processes]
result = evaluate(net, share, depth="final", classification="cross_entropy")  # the numbers are those of all shares
accelerator.print(f"accuracy {result['accuracy']:.3f}, EPG {result['epg']:.3f}")
