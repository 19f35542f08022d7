"""What the losses for loops of one's own share: an objective of the trainer that takes plain tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from guidance.api.nets import num_classes
from guidance.api.regions import Pair, Place, annotated_pairs, most_of_one_image, multi_hot, regions_of
from guidance.attribution import Method
from guidance.losses import LOCALIZATION_LOSSES, LocalizationLoss, localization_loss, looking_outside
from guidance.models.classifier import Classifier
from guidance.objectives import Classification, Counts, Localization, Objective
from guidance.objectives.objective import global_counts
from guidance.types import Batch


class GuidedOutput(NamedTuple):
    """What `GuidedLoss` and `AIMLoss` return."""

    loss: Tensor  # scalar, to be backpropagated
    logits: Tensor  # [B, K], detached
    # detached scalars, unweighted: "classification" and, where something is annotated, "localization" and "zero_maps"; of AIM
    # also "auxiliary", "area", "threshold" and the share of active cells of each stage ("active/stage2")
    terms: Mapping[str, Tensor]


class PlainLoss(nn.Module):
    """An objective with its net, asked with plain tensors. `loss`: what maps are guided with, see `GuidedLoss`."""

    def __init__(self, objective: Objective, loss: str | LocalizationLoss) -> None:
        super().__init__()
        self.objective = objective
        self._loss = loss
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
        never: Sequence[Place] | Tensor | None = None,
        annotated: Tensor | None = None,
    ) -> Counts:
        """Sizes of the global batch, for `forward` on its micro batches: give it the targets and annotations of all of them.

        The gradients of the micro batches then add up to that of the whole batch. A collective call: with several processes,
        each makes it once per step, for its share.
        """
        return _counts(targets, annotated_pairs(targets, boxes, masks, annotated, never))

    def _step(
        self, images: Tensor, targets: Tensor, pairs: Sequence[Pair], counts: Counts | None, index: Tensor
    ) -> GuidedOutput:
        """The loss of a batch with its annotated `pairs`; `index` [B] long tells its samples apart."""
        _check_never(pairs, self._loss)
        batch = self._batch(images, targets, pairs, index)
        step = self.objective(batch, _counts(targets, pairs) if counts is None else counts)
        return GuidedOutput(step.loss, step.logits, step.terms)

    def _batch(self, images: Tensor, targets: Tensor, pairs: Sequence[Pair], index: Tensor) -> Batch:
        if images.dim() != 4 or len(images) != len(targets):
            raise ValueError(
                f"expected images [B, C, H, W] and a target for each; got {list(images.shape)} and {len(targets)}"
            )
        if self._num_classes is None:
            self._num_classes = num_classes(self.model, images)
        batch = Batch(
            images=images, targets=multi_hot(targets, self._num_classes),
            regions=regions_of(pairs, images.shape[2], images.shape[3]),
            groups=torch.full((len(images),), -1), index=index,
        )  # fmt: skip
        return batch.to(images.device)


def classification_of(settings: str | Classification) -> Classification:
    """A classification loss, by its kind or as it is."""
    return Classification(settings) if isinstance(settings, str) else settings


def localization_of(
    loss: str | LocalizationLoss,
    weight: float,
    *,
    reduction: Literal["sum", "mean"],
    attribution: str | Method,
    depth: str,
) -> Localization:
    """How maps are guided, with a loss by its name or as a function."""
    function = localization_loss(loss) if isinstance(loss, str) else loss
    return Localization(function, weight, reduction, attribution, depth)


def _counts(targets: Tensor, pairs: Sequence[Pair]) -> Counts:
    return global_counts(targets, len(pairs), rounds=most_of_one_image(pairs))


def _check_never(pairs: Sequence[Pair], loss: str | LocalizationLoss) -> None:
    """Raise ValueError where a loss of the table cannot use what is only known of where evidence must not lie."""
    if not isinstance(loss, str):
        return
    looks = LOCALIZATION_LOSSES[loss].looks
    for pair in pairs:
        if pair.never is not None and looks == "inside":
            raise ValueError(
                f"image {pair.image} has never regions, but the loss {loss!r} only looks inside the mask, so nothing would be "
                f"penalised there; use {looking_outside()}"
            )
        if pair.place is None and looks != "outside":
            raise ValueError(
                f"image {pair.image} only says where evidence for class {pair.target} must not lie; the loss {loss!r} would "
                f"pull it to all other places. Use {looking_outside()}, or give the class boxes or a mask too"
            )
