"""The objective of guidance."""

from __future__ import annotations

from guidance.models.classifier import Classifier
from guidance.objectives.localization import Localization, localization_terms
from guidance.objectives.objective import Classification, ClassificationTerm, Objective


def guided_objective(
    model: Classifier, classification: Classification | None = None, localization: Localization | None = None
) -> Objective:
    """The objective of guidance: terms "classification" and, where a weight is set, "localization"."""
    classify = ClassificationTerm(classification or Classification())
    return Objective(model, [classify.term(), *localization_terms(model, localization or Localization())])
