"""Classification plus localisation: L = L_class + weight * L_loc (model guidance, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

from guidance import distributed
from guidance.attribution import Method, Request, attribute, check_explainable, method_of, one_hot
from guidance.losses import LocalizationLoss
from guidance.maps import positive_energy
from guidance.models.classifier import Classifier
from guidance.objectives.classification import Classification, ClassificationTerm
from guidance.objectives.objective import Counts, Losses, Objective, Term
from guidance.types import Batch, Forward


@dataclass(frozen=True)
class Localization:
    """How maps are guided: `loss` of the maps of `attribution` at `depth`, with `weight`.

    L_loc is, with `reduction` "sum", the sum over the annotated pairs of the global batch (the published code's convention,
    which its values of lambda need), and with "mean" their mean. A `weight` of 0 guides nothing.
    """

    loss: LocalizationLoss | None = None
    weight: float = 0.0
    reduction: str = "sum"
    attribution: str | Method = "ixg"
    depth: str = "input"

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', not {self.reduction!r}")


def guided_objective(
    model: Classifier, classification: Classification | None = None, localization: Localization | None = None
) -> Objective:
    """The objective of guidance: terms "classification" and, where a weight is set, "localization"."""
    classify = ClassificationTerm(classification or Classification())
    return Objective(model, [classify.term(), *localization_terms(model, localization or Localization())])


def localization_terms(model: Classifier, settings: Localization) -> list[Term]:
    """The term "localization" in a list; none where its weight is 0. It also logs the share of maps without positive evidence.

    Raises ValueError for a depth that the net does not have.
    """
    check_explainable(model)
    loss = settings.loss
    if not settings.weight or loss is None:
        return []
    if settings.depth not in model.depths:
        raise ValueError(f"this net has no depth {settings.depth!r}; it has {', '.join(model.depths)}")
    method = method_of(settings.attribution)

    def losses(out: Forward, batch: Batch, counts: Counts) -> Losses:
        regions = batch.regions
        seed = one_hot(regions.target, out.logits.shape[1])
        request = Request(
            method, settings.depth, regions.image, seed, create_graph=True, rounds=counts.rounds, out=out
        )  # fmt: skip
        attribution = attribute(model, request)
        zero = ~positive_energy(attribution.detach())[1]
        share = distributed.world_size() / counts.regions
        return Losses(loss(attribution, regions.mask), {"zero_maps": zero.sum() * share})

    by_images = settings.depth == "input" and method.needs_gradient(model)
    return [Term("localization", losses, settings.weight, "regions", settings.reduction, by_images)]  # type: ignore[arg-type]
