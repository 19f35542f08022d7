"""Config -> optimizer and schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from guidance.config import Config
from guidance.models import Classifier, find_backbone


def parameter_groups(config: Config, model: Classifier) -> list[dict[str, Any]]:
    """What the optimizer updates: all weights, or the backbone's and the others with their own learning rates.

    The backbone is what pretrained weights fill: all but the classifier, or all but what the mode adds.
    """
    rate, named = config.optimizer.backbone_lr, list(model.net.named_parameters())
    if rate is None:
        return [{"params": [p for _, p in named]}]
    prefix = "" if config.mode.layout is None else config.mode.layout.prefix
    head = f"{prefix}{find_backbone(config.model.name).head}."

    def is_backbone(name: str) -> bool:
        return not name.startswith(head) and name.startswith(prefix)

    return [
        {"params": [p for name, p in named if not is_backbone(name)]},
        {"params": [p for name, p in named if is_backbone(name)], "lr": rate, "name": "backbone"},
    ]


def build_optimizer(
    config: Config, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]], steps_per_epoch: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer, and the schedule as a factor of its learning rate for each step.

    All weights are updated by one fused kernel, in a third to a half of the time on a CPU. It rounds otherwise than torch's
    default. A run that goes on keeps the way in which it began, which its checkpoint holds.
    """
    settings = config.optimizer
    optimizer: Optimizer
    # Weights without values, of which only the size is asked, have no such kernel.
    fused = not _on_meta(parameters)
    if settings.name == "sgd":
        optimizer = SGD(
            parameters, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused
        )
    else:
        kind = {"adam": Adam, "adamw": AdamW}[settings.name]
        optimizer = kind(parameters, settings.lr, weight_decay=settings.weight_decay, fused=fused)
    schedule = config.schedule
    factor = partial(
        learning_rate_factor,
        name=schedule.name,
        warmup=round(schedule.warmup_epochs * steps_per_epoch),
        total=config.trainer.epochs * steps_per_epoch,
        period=max(1, round(schedule.step_epochs * steps_per_epoch)),
        gamma=schedule.gamma,
    )
    return optimizer, LambdaLR(optimizer, factor)


def _on_meta(parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> bool:
    every = [x for part in parameters for x in (part["params"] if isinstance(part, dict) else [part])]
    return any(x.is_meta for x in every)


def learning_rate_factor(step: int, *, name: str, warmup: int, total: int, period: int, gamma: float) -> float:
    """Factor of the learning rate at update `step` (from 0): linear warm-up from 1 %, then the schedule."""
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
    if name == "step":
        return float(gamma ** ((step - warmup) // period))
    return 1.0
