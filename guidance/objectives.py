"""What DistributedDataParallel wraps: a model together with its loss, from a batch to one scalar.

To add a training mode, write an `Objective`, and a function that builds it in the OBJECTIVES table of guidance/build/parts.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance import distributed
from guidance.attribution import attribute, needs_gradient
from guidance.attribution.gradient import Attribution
from guidance.maps import positive_energy
from guidance.models.classifier import Classifier
from guidance.types import Batch, Forward, Step


class Counts(NamedTuple):
    """Sizes of the global batch: over all processes and all accumulated chunks. Host numbers, known before the forward."""

    images: float
    regions: float
    rounds: int  # most pairs on one image of any process: every process runs as many backward passes


class Objective(nn.Module):
    """Interface of a training mode; `model` is what evaluation and checkpoints see."""

    model: Classifier

    def counts(self, batch: Batch) -> Counts:
        """Global sizes of a batch that lies on the host. Every process must call it once per step."""
        images, regions = distributed.sum_numbers([len(batch.images), len(batch.regions.image)])
        (rounds,) = distributed.max_numbers([batch.regions.rounds])
        return Counts(images, regions, int(rounds))

    def forward(self, batch: Batch, counts: Counts) -> Step:
        raise NotImplementedError


def classification_loss(
    logits: Tensor, targets: Tensor, *, kind: str, weights: Tensor | None, weighting: str
) -> Tensor:
    """Loss per image [B].

    `kind` "bce": binary cross entropy on every logit, mean over the K classes (model guidance, Sec. 3.1);
    "cross_entropy": softmax cross entropy, for targets [B, K] with one positive class.
    `weights` [K] with `weighting` "sample": the loss of an image is multiplied by the weight of its class (mean over its
    positive classes, 1 for an image without any); "class": the term of each output is multiplied by that output's weight.
    """
    if kind == "cross_entropy":
        per_class = -targets * functional.log_softmax(logits, dim=1)
        if weights is not None and weighting == "class":
            per_class = per_class * weights
        loss = per_class.sum(1)
    else:
        per_class = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if weights is not None and weighting == "class":
            per_class = per_class * weights
        loss = per_class.mean(1)
    if weights is not None and weighting == "sample":
        positives = targets.sum(1)
        loss = loss * torch.where(positives > 0, (targets * weights).sum(1) / positives.clamp_min(1), 1.0)
    return loss


class GuidedClassification(Objective):
    """Classification plus localisation: L = L_class + weight * L_loc (model guidance, Eq. 1).

    L_class is the mean over the global batch. L_loc is, with `reduction` "sum", the sum over the annotated pairs of the
    global batch (the published code's convention, which its values of lambda need), and with "mean" their mean. Either way
    the number of processes and of accumulated chunks changes nothing, because both are formed from global counts and
    multiplied by the number of processes that DistributedDataParallel divides by. The logged terms are unweighted:
    "classification", "localization" as a mean over pairs, and "zero_maps", the share of maps without positive evidence.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        classification: str = "bce",
        class_weights: Tensor | None = None,
        weighting: str = "sample",
        localization: Callable[[Tensor, Tensor], Tensor] | None = None,
        weight: float = 0.0,
        reduction: str = "sum",
        attribution: str | Attribution = "ixg",
        depth: str = "input",
    ) -> None:
        super().__init__()
        if classification not in ("bce", "cross_entropy"):
            raise ValueError(f"classification must be 'bce' or 'cross_entropy', not {classification!r}")
        if weighting not in ("sample", "class"):
            raise ValueError(f"weighting must be 'sample' or 'class', not {weighting!r}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', not {reduction!r}")
        if depth not in model.depths:
            raise ValueError(f"this net has no depth {depth!r}; it has {', '.join(model.depths)}")
        self.model = model
        self.classification, self.weighting, self.reduction = classification, weighting, reduction
        self.localization = localization if weight else None
        self.weight, self.attribution, self.depth = weight, attribution, depth
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, counts: Counts) -> Step:
        """`batch` on the device of the model; `counts` from `self.counts` on the whole batch of this process."""
        # Without any region on any process all of them skip the map together, so that collective calls stay paired.
        guided = self.localization is not None and counts.regions > 0
        images = batch.images
        if guided and self.depth == "input" and needs_gradient(self.attribution, self.model):
            images = images.detach().requires_grad_()
        out: Forward = self.model(images)
        logits = out.logits.float() if out.logits.dtype != torch.float64 else out.logits
        per_image = classification_loss(
            logits, batch.targets.to(logits.dtype), kind=self.classification,
            weights=self.class_weights, weighting=self.weighting,
        )  # fmt: skip
        processes = distributed.world_size()
        classification = per_image.sum() * (processes / counts.images)
        terms = {"classification": classification.detach()}
        samples = {"classification": (batch.index, per_image.detach())}
        if not guided:
            return Step(classification, terms, samples)
        per_region, zero = self._localize(out, batch, counts)
        share = processes / counts.regions
        mean = per_region.sum() * share
        terms |= {"localization": mean.detach(), "zero_maps": zero.sum() * share}
        samples["localization"] = (batch.index[batch.regions.image], per_region.detach())
        scale = self.weight * (counts.regions if self.reduction == "sum" else 1.0)
        return Step(classification + scale * mean, terms, samples)

    def _localize(self, out: Forward, batch: Batch, counts: Counts) -> tuple[Tensor, Tensor]:
        """For every annotated pair: its localisation loss [M], and whether its map has no positive part [M] bool."""
        assert self.localization is not None
        regions = batch.regions
        attribution = attribute(
            self.attribution, self.model, out, self.depth, regions.image, regions.target,
            create_graph=True, rounds=counts.rounds,
        )  # fmt: skip
        zero = ~positive_energy(attribution.detach())[1]
        return self.localization(attribution, regions.mask), zero
