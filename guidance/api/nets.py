"""What a net is used with: the method that explains it, its depth, the names of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from guidance.attribution import Method, check_explainable, method_of
from guidance.models.classifier import Classifier, evaluation_mode


class Use(NamedTuple):
    """A net as it is explained and evaluated."""

    model: Classifier
    method: Method
    depth: str
    classes: tuple[str, ...] | None = None  # names; None where nobody has given any
    exclusive: bool = True  # an image has one class: probabilities are a softmax, decisions the largest logit
    lens: bool = False  # whether the method lets classes compete


def use_of_net(
    model: Classifier, attribution: str | Method | None, depth: str | None, classes: Sequence[str] | None
) -> Use:
    """Of a net without a run: by default explained by IxG, and each method at its own depth."""
    check_explainable(model)
    method = method_of("ixg" if attribution is None else attribution)
    return Use(model, method, method.depth if depth is None else depth, None if classes is None else tuple(classes))


def check_classes(names: Sequence[str] | None, number: int) -> tuple[str, ...]:
    """The names of so many classes, or their indices as such. Raises ValueError for another number of names."""
    if names is None:
        return tuple(map(str, range(number)))
    if len(names) != number:
        raise ValueError(f"classes has {len(names)} names, but the net has {number} classes")
    return tuple(names)


def num_classes(model: Classifier, images: Tensor) -> int:
    """How many classes a net has: it is asked with the first of `images` [B, C, H, W], as in evaluation."""
    # Autocast keeps the weights that it casts: without a graph, as here, they must not serve the training pass that follows.
    with torch.no_grad(), evaluation_mode(model), torch.autocast(images.device.type, enabled=False):
        return int(model(images[:1]).logits.shape[1])
