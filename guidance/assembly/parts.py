"""Config -> net, attribution, objective, optimizer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from guidance.attribution import ATTRIBUTIONS
from guidance.attribution.gradient import Attribution
from guidance.config import Config
from guidance.data import Source
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES, Classifier, build_model
from guidance.models.aim import MaskedClassifier, build_aim
from guidance.objectives import AIMMasking, GuidedClassification, Objective
from guidance.types import lookup


def build_classifier(config: Config, num_classes: int, *, pretrained: bool) -> Classifier:
    """The net of the config; without `pretrained` its weights are fresh, to be replaced by those of a checkpoint."""
    model = config.model
    return build_model(
        model.name,
        num_classes=num_classes,
        weights=model.weights if pretrained else None,
        batchnorm=model.batchnorm,
        logit_bias=model.logit_bias,
        drop_path=model.drop_path,
        wrap=partial(_with_aim, config, num_classes) if config.objective.mode == "aim" else None,
    )


def _with_aim(config: Config, num_classes: int, plain: Classifier) -> Classifier:
    backbone, aim = BACKBONES[config.model.name], config.aim
    return build_aim(
        plain, backbone.channels, first_stage=backbone.first_stage, stop_stage=aim.stop_stage, num_classes=num_classes,
        masking=aim.masking, estimators=aim.estimators, initialization=aim.initialization, auxiliary=aim.auxiliary,
        width=aim.width, mask_width=aim.mask_width, dropout=aim.dropout, temperature=aim.temperature,
    )  # fmt: skip


def build_attribution(config: Config) -> tuple[Attribution, str]:
    """The attribution that evaluation uses, and its depth."""
    settings = config.evaluated_attribution
    return _attribution(settings.method, settings.steps), settings.depth


def _attribution(method: str, steps: int) -> Attribution:
    function = lookup(ATTRIBUTIONS, method, "attribution")
    return partial(function, steps=steps) if method == "intgrad" else function  # type: ignore[call-arg]


def build_objective(config: Config, model: Classifier, train: Source) -> Objective:
    """The objective around `model`, of the training mode that the config names."""
    return lookup(OBJECTIVES, config.objective.mode, "objective.mode")(config, model, train)


def build_guided(config: Config, model: Classifier, train: Source) -> Objective:
    """Classification with guidance; class weights come from the training split."""
    return _with_guidance(GuidedClassification, config, model, train)


def build_masking(config: Config, model: Classifier, train: Source) -> Objective:
    """AIM, guided where the config says so."""
    aim, epochs = config.aim, config.trainer.epochs
    masking = partial(
        AIMMasking,
        area_weight=aim.area_weight,
        area_ratio=aim.area_ratio,
        threshold=aim.threshold,
        anneal_start=aim.anneal_start,
        anneal_epochs=epochs // 2 if aim.anneal_epochs is None else aim.anneal_epochs,
        noise_epochs=round(aim.noise_until * epochs) if aim.noise_until < 1 else None,
        mask_weight=aim.mask_weight,
        seed=config.seed,
    )
    return _with_guidance(masking, config, model, train)


def _with_guidance(objective: Callable[..., Objective], config: Config, model: Classifier, train: Source) -> Objective:
    """`objective` around `model`, with what every mode is told about classification and localisation."""
    settings = config.objective
    return objective(
        model,
        classification=settings.classification,
        class_weights=class_weights(settings.class_weights, train),
        weighting=settings.weighting,
        localization=build_localization(config),
        weight=settings.localization.weight,
        reduction=settings.reduction,
        attribution=_attribution(settings.attribution.method, settings.attribution.steps),
        depth=settings.attribution.depth,
        label_smoothing=settings.label_smoothing,
    )


def build_localization(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    """The localisation loss with its options."""
    settings = config.objective.localization
    loss = lookup(LOCALIZATION_LOSSES, settings.loss, "localisation loss")
    if settings.loss == "energy_star":
        loss = partial(loss, alpha=settings.alpha, area=settings.area)  # type: ignore[call-arg]
    return loss


OBJECTIVES: dict[str, Callable[[Config, Classifier, Source], Objective]] = {
    "guided": build_guided,
    "aim": build_masking,
}


def class_weights(choice: str | Sequence[float], train: Source) -> Tensor | None:
    """[K] weights: "none", a list, or "balanced" (1 / number of training images of the class, the largest scaled to 1)."""
    if choice == "none":
        return None
    if choice == "balanced":
        counts = Counter(k for record in train.records for k in record.classes)
        inverse = torch.tensor([1.0 / counts[k] if counts[k] else 0.0 for k in range(len(train.classes))])
        # A class without training images cannot be weighted by its frequency; like the rarest, it gets 1.
        return torch.where(inverse > 0, inverse / inverse.max(), 1.0)
    assert not isinstance(choice, str)
    if len(choice) != len(train.classes):
        raise ValueError(
            f"objective.class_weights has {len(choice)} values, but {train.name} has {len(train.classes)} classes: "
            + ", ".join(train.classes)
        )
    return torch.tensor(choice, dtype=torch.float32)


def parameter_groups(config: Config, model: Classifier) -> list[dict[str, Any]]:
    """What the optimizer updates: all weights, or the backbone's and the others with their own learning rates.

    The backbone is what pretrained weights fill: all but the classifier, or all but what AIM adds.
    """
    rate, named = config.optimizer.backbone_lr, list(model.net.named_parameters())
    if rate is None:
        return [{"params": [p for _, p in named]}]
    inside = isinstance(model, MaskedClassifier)
    head = f"{'backbone.' if inside else ''}{BACKBONES[config.model.name].head}."

    def is_backbone(name: str) -> bool:
        return not name.startswith(head) and (not inside or name.startswith("backbone."))

    return [
        {"params": [p for name, p in named if not is_backbone(name)]},
        {"params": [p for name, p in named if is_backbone(name)], "lr": rate, "name": "backbone"},
    ]


def build_optimizer(
    config: Config, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]], steps_per_epoch: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer, and the schedule as a factor of its learning rate for each step."""
    settings = config.optimizer
    optimizer: Optimizer
    if settings.name == "sgd":
        optimizer = SGD(parameters, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    else:
        kind = {"adam": Adam, "adamw": AdamW}[settings.name]
        optimizer = kind(parameters, settings.lr, weight_decay=settings.weight_decay)
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


def learning_rate_factor(step: int, *, name: str, warmup: int, total: int, period: int, gamma: float) -> float:
    """Factor of the learning rate at update `step` (from 0): linear warm-up from 1 %, then the schedule."""
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
    if name == "step":
        return float(gamma ** ((step - warmup) // period))
    return 1.0
