"""Objectives of both modes from flat settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from guidance.models import Classifier
from guidance.models.aim import MaskedClassifier
from guidance.objectives import Classification, Localization, Masking, Objective, aim_objective, guided_objective

# What a setting is called in `Classification` and `Localization`.
CLASSIFICATION = {
    "classification": "kind", "class_weights": "weights", "weighting": "weighting", "label_smoothing": "label_smoothing",
}  # fmt: skip
LOCALIZATION = {
    "localization": "loss", "weight": "weight", "reduction": "reduction", "attribution": "attribution", "depth": "depth",
}  # fmt: skip


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


def classification_loss(
    logits: Tensor, targets: Tensor, *, kind: str, weights: Tensor | None = None, weighting: str = "sample",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Loss per image [B]."""
    return Classification(kind, weights, weighting, label_smoothing).per_image(logits, targets, weights)
