"""The loss of guidance for loops of one's own: plain tensors in, a scalar out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from guidance.api.plain_loss import GuidedOutput, PlainLoss, classification_of, localization_of
from guidance.api.regions import Place, annotated_pairs
from guidance.attribution import Method
from guidance.losses import LocalizationLoss
from guidance.models.classifier import Classifier
from guidance.objectives import Classification, Counts, guided_objective


class GuidedLoss(PlainLoss):
    """L_class + weight * L_loc of a net that it holds (Rao et al. 2023, Eq. 1): the objective that the trainer runs.

    `loss`: a name in LOCALIZATION_LOSSES or a function of maps [M, h, w] and masks [M, H, W] bool -> [M]. It is taken of the
    maps of `attribution` (a name in ATTRIBUTIONS, or a `Method`) at `depth`, one of `model.depths`. `reduction`: L_loc is the
    "sum" over the annotated (image, class) pairs of the batch, as published and as in configs, or their "mean".
    `classification`: "bce", "cross_entropy", or a `Classification` with class weights or label smoothing.

    Its parameters are those of `model`, for the optimizer. Under DistributedDataParallel wrap this module, never the bare
    net: the gradient is then that of the joined batch, whatever the number of processes. Under autocast the net runs in the
    lower precision, and maps and losses in float32. Raises ValueError for unknown names and what cannot be trained through.
    """

    def __init__(
        self,
        model: Classifier,
        loss: str | LocalizationLoss = "energy",
        *,
        weight: float,
        attribution: str | Method = "ixg",
        depth: str = "input",
        reduction: Literal["sum", "mean"] = "sum",
        classification: str | Classification = "bce",
    ) -> None:
        guidance = localization_of(loss, weight, reduction=reduction, attribution=attribution, depth=depth)
        super().__init__(guided_objective(model, classification_of(classification), guidance), loss)

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        boxes: Sequence[Place] | None = None,
        masks: Sequence[Place] | Tensor | None = None,
        *,
        never: Sequence[Place] | Tensor | None = None,
        annotated: Tensor | None = None,
        counts: Counts | None = None,
    ) -> GuidedOutput:
        """The loss of `images` [B, C, H, W], as the net takes them, with `targets` [B] long or [B, K] float in {0, 1}.

        `boxes`: one entry for each image, None (not annotated), [n, 4] of its only class, or {class index: [n, 4]}; x0, y0,
        x1, y1 in pixels of the input, half-open. `masks`: likewise None, [H, W] bool or {class index: [H, W] bool}, or one
        tensor [B, H, W] bool, with `annotated` [B] bool, or with empty masks for images without. A class with both keeps its
        mask. `never`: where evidence must not lie, boxes or masks in any of these forms; they are taken out of boxes and
        masks, and a class that has them alone may have its evidence everywhere else, which only losses that look outside
        ("energy", "rrr") can use. Boxes that stick out are cut off. `counts`: see `counts`; None takes those of these images,
        over all processes.
        Targets and annotations are best left on the CPU: reading them elsewhere waits for the device. Raises ValueError,
        which names the image, for boxes without area or outside of it, for masks of another size, for classes that it does
        not have, and for never regions that the loss cannot use or that leave nothing.
        """
        pairs = annotated_pairs(targets, boxes, masks, annotated, never)
        return self._step(images, targets, pairs, counts, torch.arange(len(images)))
