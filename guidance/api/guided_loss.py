"""The loss of guidance for loops of one's own: plain tensors in, a scalar out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from guidance.api.nets import num_classes
from guidance.api.regions import Pair, Place, annotated_pairs, most_of_one_image, multi_hot, regions_of
from guidance.attribution import Method
from guidance.losses import LocalizationLoss, localization_loss
from guidance.models.classifier import Classifier
from guidance.objectives import Classification, Counts, Localization, guided_objective
from guidance.objectives.objective import global_counts
from guidance.types import Batch


class GuidedOutput(NamedTuple):
    """What `GuidedLoss` returns."""

    loss: Tensor  # scalar, to be backpropagated
    logits: Tensor  # [B, K], detached
    # detached scalars, unweighted: "classification" and, where something is annotated, "localization" and "zero_maps"
    terms: Mapping[str, Tensor]


class GuidedLoss(nn.Module):
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
        super().__init__()
        chosen = localization_loss(loss) if isinstance(loss, str) else loss
        self.objective = guided_objective(
            model,
            Classification(classification) if isinstance(classification, str) else classification,
            Localization(chosen, weight, reduction, attribution, depth),
        )
        self._num_classes: int | None = None

    @property
    def model(self) -> Classifier:
        """The net."""
        return self.objective.model

    def counts(
        self,
        targets: Tensor,
        boxes: Sequence[Place] | None = None,
        masks: Sequence[Place] | Tensor | None = None,
        *,
        annotated: Tensor | None = None,
    ) -> Counts:
        """Sizes of the global batch, for `forward` on its micro batches: give it the targets and annotations of all of them.

        The gradients of the micro batches then add up to that of the whole batch. A collective call: with several processes,
        each makes it once per step, for its share.
        """
        return _counts(targets, annotated_pairs(targets, boxes, masks, annotated))

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        boxes: Sequence[Place] | None = None,
        masks: Sequence[Place] | Tensor | None = None,
        *,
        annotated: Tensor | None = None,
        counts: Counts | None = None,
    ) -> GuidedOutput:
        """The loss of `images` [B, C, H, W], as the net takes them, with `targets` [B] long or [B, K] float in {0, 1}.

        `boxes`: one entry for each image, None (not annotated), [n, 4] of its only class, or {class index: [n, 4]}; x0, y0,
        x1, y1 in pixels of the input, half-open. `masks`: likewise None, [H, W] bool or {class index: [H, W] bool}, or one
        tensor [B, H, W] bool, with `annotated` [B] bool, or with empty masks for images without. A class with both keeps its
        mask. Boxes that stick out are cut off. `counts`: see `counts`; None takes those of these images, over all processes.
        Targets and annotations are best left on the CPU: reading them elsewhere waits for the device. Raises ValueError,
        which names the image, for boxes without area or outside of it, for masks of another size, and for classes that it
        does not have.
        """
        pairs = annotated_pairs(targets, boxes, masks, annotated)
        counts = _counts(targets, pairs) if counts is None else counts
        step = self.objective(self._batch(images, targets, pairs), counts)
        return GuidedOutput(step.loss, step.logits, step.terms)

    def _batch(self, images: Tensor, targets: Tensor, pairs: Sequence[Pair]) -> Batch:
        if images.dim() != 4 or len(images) != len(targets):
            raise ValueError(
                f"expected images [B, C, H, W] and a target for each; got {list(images.shape)} and {len(targets)}"
            )
        if self._num_classes is None:
            self._num_classes = num_classes(self.model, images)
        index = torch.arange(len(images))
        batch = Batch(
            images=images, targets=multi_hot(targets, self._num_classes),
            regions=regions_of(pairs, images.shape[2], images.shape[3]),
            groups=torch.full_like(index, -1), index=index,
        )  # fmt: skip
        return batch.to(images.device)


def _counts(targets: Tensor, pairs: Sequence[Pair]) -> Counts:
    return global_counts(targets, len(pairs), rounds=most_of_one_image(pairs))
