"""Objectives of both modes from flat settings, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from guidance.models import Classifier
from guidance.models.aim import MaskedClassifier
from guidance.objectives import Classification, Localization, Masking, Objective, aim_objective, guided_objective
from guidance.types import Batch, Regions
from tests.support.nets import tiny_aim

# What a setting is called in `Classification` and `Localization`.
CLASSIFICATION = {
    "classification": "kind", "class_weights": "weights", "weighting": "weighting", "label_smoothing": "label_smoothing",
}  # fmt: skip
LOCALIZATION = {
    "localization": "loss", "weight": "weight", "reduction": "reduction", "attribution": "attribution", "depth": "depth",
}  # fmt: skip


def batch_of(images: int = 4, regions: list[tuple[int, int]] | None = None, classes: int = 3) -> Batch:
    """Random images of one class each, with the same square region for each (image, class) of `regions`."""
    pairs = [(0, 0), (2, 1), (3, 2)] if regions is None else regions
    mask = torch.zeros(len(pairs), 16, 16, dtype=torch.bool)
    mask[:, 4:12, 4:12] = True
    rows = torch.tensor([p[0] for p in pairs], dtype=torch.long)
    targets = torch.zeros(images, classes, dtype=torch.float64)
    targets[torch.arange(images), torch.arange(images) % classes] = 1
    rounds = int(rows.bincount().max()) if pairs else 0
    return Batch(
        images=torch.randn(images, 3, 16, 16, dtype=torch.float64), targets=targets,
        regions=Regions(rows, torch.tensor([p[1] for p in pairs], dtype=torch.long), mask, None, rounds),
        groups=torch.full((images,), -1), index=torch.arange(100, 100 + images),
    )  # fmt: skip


def _named(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: value for name, value in settings.items() if name in names}


def guided(model: Classifier, **settings: Any) -> Objective:
    """`guided_objective` of settings as in CLASSIFICATION and LOCALIZATION."""
    assert settings.keys() <= CLASSIFICATION.keys() | LOCALIZATION.keys()
    return guided_objective(
        model, Classification(**_named(settings, CLASSIFICATION)), Localization(**_named(settings, LOCALIZATION))
    )


def masking(model: MaskedClassifier, **settings: Any) -> Objective:
    """`aim_objective` of the same settings, and of those of `Masking`."""
    own = {field.name: settings.pop(field.name) for field in fields(Masking) if field.name in settings}
    assert settings.keys() <= CLASSIFICATION.keys() | LOCALIZATION.keys()
    classification = {"classification": "cross_entropy"} | settings
    localization = {"attribution": "gradcam", "depth": "final"} | settings
    return aim_objective(
        model, Masking(**own), Classification(**_named(classification, CLASSIFICATION)),
        Localization(**_named(localization, LOCALIZATION)),
    )  # fmt: skip


def tiny_masking(model: MaskedClassifier | None = None, **settings: object) -> Objective:
    """`masking` of `model`, or of `tiny_aim()`, with the paper's threshold, in float64."""
    model = tiny_aim() if model is None else model
    defaults = {"threshold": 0.35, "classification": "cross_entropy"}
    return masking(model, **(defaults | settings)).double()  # type: ignore[arg-type]


def classification_loss(
    logits: Tensor, targets: Tensor, *, kind: str, weights: Tensor | None = None, weighting: str = "sample",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Loss per image [B]."""
    return Classification(kind, weights, weighting, label_smoothing).per_image(logits, targets, weights)
