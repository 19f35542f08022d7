"""The loss of AIM for loops of one's own: plain tensors in, a scalar out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from guidance.api.plain_loss import GuidedOutput, PlainLoss, classification_of, localization_of
from guidance.api.regions import Place, annotated_pairs
from guidance.attribution import Method
from guidance.losses import LocalizationLoss
from guidance.models.aim import MaskedClassifier
from guidance.objectives import Classification, Counts, Masking, aim_objective


class AIMLoss(PlainLoss):
    """The loss of AIM (Alshami et al. 2025) of a net that masks its own features: the objective that the trainer runs.

    `model`: of `guidance.models.aim.build_aim`. `masking`: weight and thresholds of the area loss, and for how long masks
    are drawn; call `begin_epoch` before each epoch, which both depend on. `weight` above 0 guides the maps of the net as well,
    with `loss`, `attribution`, `depth` and `reduction` as in `GuidedLoss`; so does `masking.mask_weight` its soft masks.
    `classification`: as there.

    Under DistributedDataParallel wrap this module, never the bare net, and call its own `begin_epoch`. Raises ValueError for
    another net, for thresholds that do not fit it, and for what `GuidedLoss` refuses.
    """

    def __init__(
        self,
        model: MaskedClassifier,
        masking: Masking | None = None,
        loss: str | LocalizationLoss = "energy",
        *,
        weight: float = 0.0,
        attribution: str | Method = "gradcam",
        depth: str = "final",
        reduction: Literal["sum", "mean"] = "sum",
        classification: str | Classification = "cross_entropy",
    ) -> None:
        if not isinstance(model, MaskedClassifier):
            raise ValueError(
                f"a {type(model).__name__} does not mask its features: give a net of guidance.models.aim.build_aim"
            )
        guidance = localization_of(loss, weight, reduction=reduction, attribution=attribution, depth=depth)
        super().__init__(aim_objective(model, masking, classification_of(classification), guidance), loss)

    def begin_epoch(self, epoch: int) -> None:
        """Set threshold, noise and draws to those of `epoch`, counted from 0."""
        self.objective.begin_epoch(epoch)

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        index: Tensor,
        boxes: Sequence[Place] | None = None,
        masks: Sequence[Place] | Tensor | None = None,
        *,
        never: Sequence[Place] | Tensor | None = None,
        annotated: Tensor | None = None,
        counts: Counts | None = None,
    ) -> GuidedOutput:
        """The loss of `images` [B, C, H, W], of which `index` [B] long tells which samples of the data they are.

        Masks and drop-out are drawn by seed, epoch and `index`, so neither the number of processes nor that of micro batches
        changes them. Everything else, none of which AIM needs but `images` and `targets`, is as in `GuidedLoss.forward`.
        """
        if index.shape != (len(images),):
            raise ValueError(
                f"index has the shape {list(index.shape)}; expected one number for each of {len(images)} images"
            )
        pairs = annotated_pairs(targets, boxes, masks, annotated, never)
        return self._step(images, targets, pairs, counts, index)
