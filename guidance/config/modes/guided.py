"""Guidance (objective.mode: guided), and plain classification where its weight is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidance.config.modes.mode import Mode
from guidance.models import Classifier
from guidance.objectives import Classification, Localization, Objective, guided_objective

if TYPE_CHECKING:
    from guidance.config.schema import Config


def objective(
    config: Config, model: Classifier, classification: Classification, localization: Localization
) -> Objective:
    """The terms of guidance."""
    return guided_objective(model, classification, localization)


GUIDED = Mode(objective)
