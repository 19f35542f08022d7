"""The gradient that reaches the tokens through the values alone."""

from __future__ import annotations

from torch import Tensor

from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.trace import in_turns, trace


def value_gradient(model: Explainable, request: Request) -> Tensor:
    """Gradient with the attention weights as constants, summed over channels: signed.

    A variant of the gradient for transformers in public code of attribution_lens, whose paper does not say which of the two its
    "Gradient" is. At the tokens mid1..3 the sum is zero, see `guidance.models.vit.net.vit`.
    """
    traced = trace(model, request, form="dynamic")

    def relevance(seed: Tensor) -> Tensor:
        with model.linearized():  # not the attention detached in the forward pass: a loss on the map trains it
            return traced.gradients(seed, [traced.start])[0]

    maps = model.cells(in_turns(traced, request, relevance), request.depth).sum(1)
    return maps if request.create_graph else maps.detach()
