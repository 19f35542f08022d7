"""What a training mode does beside its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from guidance.models.classifier import Classifier
from guidance.types import Batch, Forward


class Behaviour:
    """How a mode runs the net in training, what it does before an epoch, and what it tells; this one does nothing special."""

    def run(self, model: Callable[..., Forward], images: Tensor, batch: Batch) -> Forward:
        """The forward pass in training; `images` are those of the batch, `model` the net or its compiled form."""
        return model(images)

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        """Called before each epoch, or the rest of one; epochs count from 0."""

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """What a user should know of an epoch, from its logged values ("train/..." and "val/..."); for each thing once."""
        return []
