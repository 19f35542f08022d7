"""The classification loss, as a function and as a term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

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
