"""A batch as plain tensors and as the trainer has it, and the trainer's own step for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from guidance.data import Sample, collate
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import convert_batchnorm
from guidance.objectives import Objective
from guidance.training.options import TrainingOptions
from guidance.training.trainer import Trainer
from guidance.types import Batch, Step
from tests.support import small_nets
from tests.support.runs import CPU
from tests.support.scenarios import small_net

LABELS = (0, 2, 1, 3)
# image -> boxes of its class, in pixels of any of the nets: the smallest is 12 pixels wide.
BOXES = {0: [(1.0, 2.0, 7.0, 9.0), (5.2, 0.0, 11.6, 4.4)], 2: [(3.0, 3.0, 8.5, 10.0)]}


class Plain(NamedTuple):
    """What `GuidedLoss` takes."""

    images: Tensor
    targets: Tensor
    boxes: list[Tensor | None]


def net(name: str, dtype: torch.dtype = torch.float64) -> tuple[Classifier, Tensor]:
    """A small net in training mode, and four images: of `small_nets`, or "batchnorm local" and the like."""
    if name.startswith("batchnorm"):
        model, images = small_net(4).double(), torch.randn(4, 3, 16, 16, dtype=torch.float64)
        convert_batchnorm(model.net, name.split()[1])
    else:
        model, images = small_nets.build(name, batch=4)
    return model.to(dtype).train(), images.to(dtype)


def plain(images: Tensor) -> Plain:
    return Plain(images, torch.tensor(LABELS), [torch.tensor(BOXES[i]) if i in BOXES else None for i in range(4)])


def as_batch(images: Tensor) -> Batch:
    """The same, from masks that are drawn pixel by pixel, as the loader joins them."""
    samples = []
    for i, image in enumerate(images):
        masks = torch.zeros(1 if i in BOXES else 0, *image.shape[1:], dtype=torch.bool)
        for x0, y0, x1, y1 in BOXES.get(i, []):
            for y in range(masks.shape[1]):
                for x in range(masks.shape[2]):
                    masks[0, y, x] |= x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
        targets = torch.zeros(4)
        targets[LABELS[i]] = 1
        samples.append(Sample(image, targets, torch.tensor([LABELS[i]])[: len(masks)], masks, None, -1, i))
    return collate(samples)


def trainer_step(objective: Objective, batch: Batch, *, precision: str = "fp32", accumulate: int = 1) -> list[Step]:
    """What the trainer makes of a batch; the gradients stay with the parameters."""
    steps: list[Step] = []

    class Noting(nn.Module):
        def forward(self, *args: Any) -> Step:
            steps.append(objective(*args))
            return steps[-1]

    optimizer = SGD(objective.parameters(), 0.0)
    trainer = Trainer(
        objective, optimizer, LambdaLR(optimizer, lambda step: 1.0), cast(Any, None),
        TrainingOptions(CPU, epochs=1, precision=precision, accumulate=accumulate),
        evaluate=lambda step: {}, saver=cast(Any, None), log=cast(Any, None),
    )  # fmt: skip
    trainer._train_step(Noting(), batch)
    return steps


def gradients(module: nn.Module) -> Mapping[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
