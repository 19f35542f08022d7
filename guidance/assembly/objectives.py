"""Config -> objective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from guidance.assembly.compiling import compiled_for_training
from guidance.assembly.nets import build_method
from guidance.config import Config
from guidance.data import Source
from guidance.losses import LOCALIZATION_LOSSES, LocalizationLoss, localization_loss
from guidance.models import Classifier
from guidance.objectives import Classification, Localization, Objective
from guidance.types import lookup


def build_objective(config: Config, model: Classifier, train: Source) -> Objective:
    """The objective around `model`, of the training mode that the config names; class weights come from the training split."""
    objective = config.mode.objective(config, model, build_classification(config, train), build_guidance(config))
    if config.trainer.compile:
        objective.compiled = compiled_for_training(config, model)
    return objective


def build_guidance(config: Config) -> Localization:
    """How maps are guided."""
    settings = config.objective
    return Localization(
        build_localization(config),
        settings.localization.weight,
        settings.reduction,
        build_method(settings.attribution),
        settings.attribution.depth,
    )


def build_classification(config: Config, train: Source) -> Classification:
    """The classification loss with its class weights."""
    settings = config.objective
    weights = class_weights(settings.class_weights, train)
    return Classification(settings.classification, weights, settings.weighting, settings.label_smoothing)


def build_localization(config: Config) -> LocalizationLoss:
    """The localisation loss with its options."""
    settings = config.objective.localization
    row = lookup(LOCALIZATION_LOSSES, settings.loss, "localisation loss")
    return localization_loss(settings.loss, settings.chosen(settings.loss, row, "objective.localization"))


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
