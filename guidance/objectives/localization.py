"""Guidance: the localisation loss of attribution maps, as a term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from guidance import distributed
from guidance.attribution import (
    Method,
    Request,
    attribute,
    check_explainable,
    method_of,
    needed_classes,
    needs_gradient,
    one_hot,
)
from guidance.losses import LocalizationLoss
from guidance.maps import positive_energy
from guidance.models.classifier import Classifier
from guidance.objectives.objective import Counts, Losses, Term
from guidance.types import Batch, Forward


@dataclass(frozen=True)
class Localization:
    """How maps are guided: `loss` of the maps of `attribution` at `depth`, with `weight`.

    L_loc is, with `reduction` "sum", the sum over the annotated pairs of the global batch (the published code's convention,
    which its values of lambda need), and with "mean" their mean. A `weight` of 0 guides nothing.
    """

    loss: LocalizationLoss | None = None
    weight: float = 0.0
    reduction: Literal["mean", "sum"] = "sum"
    attribution: str | Method = "ixg"
    depth: str = "input"


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

    def request(batch: Batch, counts: Counts) -> Request:
        image, target = batch.regions.image, batch.regions.target
        classes = needed_classes(method, batch.targets, image, target, most=counts.classes)
        seed = one_hot(target, batch.targets.shape[1])
        return Request(method, settings.depth, image, seed, classes, create_graph=True, rounds=counts.rounds)

    def losses(out: Forward, batch: Batch, counts: Counts) -> Losses:
        attribution = attribute(model, replace(request(batch, counts), out=out))
        zero = ~positive_energy(attribution.detach())[1]
        share = distributed.world_size() / counts.regions
        return Losses(loss(attribution, batch.regions.mask), {"zero_maps": zero.sum() * share})

    by_images = settings.depth == "input" and needs_gradient(method, model)
    return [Term("localization", losses, settings.weight, "regions", settings.reduction, by_images, asks=request)]
