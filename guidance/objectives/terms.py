"""The terms of classification and of guidance: L = L_class + weight * L_loc (model guidance, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance import distributed
from guidance.attribution import Method, Request, attribute, check_explainable, method_of, needs_gradient, one_hot
from guidance.losses import LocalizationLoss
from guidance.maps import positive_energy
from guidance.models.classifier import Classifier
from guidance.objectives.objective import Counts, Losses, Term
from guidance.types import Batch, Forward


@dataclass(frozen=True, eq=False)
class Classification:
    """Which loss of logits [B, K] and targets [B, K] classification is trained with; see `per_image`."""

    kind: str = "bce"  # "bce" or "cross_entropy"
    weights: Tensor | None = None  # [K], of the classes
    weighting: str = "sample"  # what a class weight multiplies: an image's loss, or one output's ("class")
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("bce", "cross_entropy"):
            raise ValueError(f"classification must be 'bce' or 'cross_entropy', not {self.kind!r}")
        if self.weighting not in ("sample", "class"):
            raise ValueError(f"weighting must be 'sample' or 'class', not {self.weighting!r}")
        if self.label_smoothing and self.kind != "cross_entropy":
            raise ValueError("label_smoothing needs classification 'cross_entropy'")

    def per_image(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Loss per image [B]; `weights` are those of this record, on the device and of the type that the logits have.

        `kind` "bce": binary cross entropy on every logit, mean over the K classes (model guidance, Sec. 3.1);
        "cross_entropy": softmax cross entropy, for targets [B, K] with one positive class.
        With `weighting` "sample" the loss of an image is multiplied by the weight of its class (mean over its
        positive classes, 1 for an image without any); "class": the term of each output is multiplied by that output's weight.
        `label_smoothing` e (cross entropy only): targets become (1 - e) t + e / K (Szegedy et al. 2016, Sec. 7).
        """
        hard = targets
        if self.kind == "cross_entropy":
            if self.label_smoothing:
                targets = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
            per_class = -targets * functional.log_softmax(logits, dim=1)
            if weights is not None and self.weighting == "class":
                per_class = per_class * weights
            loss = per_class.sum(1)
        else:
            per_class = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            if weights is not None and self.weighting == "class":
                per_class = per_class * weights
            loss = per_class.mean(1)
        if weights is not None and self.weighting == "sample":
            positives = hard.sum(1)
            loss = loss * torch.where(positives > 0, (hard * weights).sum(1) / positives.clamp_min(1), 1.0)
        return loss


class ClassificationTerm(nn.Module):
    """The term "classification"; a module, because class weights must lie on the device of the net."""

    def __init__(self, settings: Classification) -> None:
        super().__init__()
        self.settings = settings
        self.weights: Tensor | None
        self.register_buffer("weights", settings.weights, persistent=False)

    def term(self) -> Term:
        return Term("classification", self)

    def forward(self, out: Forward, batch: Batch, counts: Counts) -> Losses:
        """The mean over the global batch is the loss."""
        return Losses(self.per_image(out.logits, batch.targets))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss per image [B], in float32 or better."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return self.settings.per_image(logits, targets.to(logits.dtype), self.weights)


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

    by_images = settings.depth == "input" and needs_gradient(method, model)
    return [Term("localization", losses, settings.weight, "regions", settings.reduction, by_images)]  # type: ignore[arg-type]
