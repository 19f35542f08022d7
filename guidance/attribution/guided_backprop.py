"""Guided Backprop and Guided GradCAM: gradients of which every activation lets only the positive part through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from guidance.attribution.gradient import Explainable, evaluation_mode, gradcam
from guidance.maps import full_precision, upsample
from guidance.types import Forward

GUIDED: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.GELU: "gelu"}


def guided_backprop(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int
) -> Tensor:
    """Guided Backprop, summed over channels: signed (Springenberg et al. 2015, Eq. 6).

    The gradient g of the logit, where every activation hands down only the positive part of the gradient that leaves it.
    At a ReLU that is g * 1[x > 0] * 1[g > 0], as published. At a GELU, for which nothing is published, it is the positive
    part of g * GELU'(x). Activations of other kinds, and those that are called as functions, pass the plain gradient.
    `guided_rule` says which of these a net has: libraries that know only ReLU (captum) return the plain gradient for a
    GELU net. Runs the upper part of the net again, in evaluation mode, on M rows; `rounds` is not used.
    """
    return _guided_gradient(model, out, depth, image, target, create_graph=create_graph).sum(1)


def guided_gradcam(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int
) -> Tensor:
    """Guided Backprop at `depth` times the GradCAM map of the last depth, summed over channels: signed.

    Selvaraju et al. 2017, Sec. 3.2. The map of GradCAM, never negative, is upsampled bilinearly, as in the paper (captum
    takes the nearest cell). The last depth is the last one in `out.features`.
    """
    gradient = _guided_gradient(model, out, depth, image, target, create_graph=create_graph)
    last = list(out.features)[-1]
    cam = gradcam(model, out, last, image, target, create_graph=create_graph, rounds=rounds)
    with full_precision(gradient) as g:
        return upsample(cam, (g.shape[2], g.shape[3])) * g.sum(1)


def guided_rule(model: Explainable) -> str:
    """What Guided Backprop means for this net: the activation modules at which it clamps the gradient.

    "relu", "gelu", "relu+gelu" where the net has both, or "none": there it is the plain gradient.
    """
    found = {name for module in model.modules() for kind, name in GUIDED.items() if isinstance(module, kind)}
    return "+".join(name for name in GUIDED.values() if name in found) or "none"


@contextmanager
def guided(model: Explainable) -> Iterator[None]:
    """Inside the block, gradients of what the net computes there follow the guided rule; after it, they are true again.

    The forward pass and its gradient both belong inside. No hook is left behind, also after an exception.
    """
    active = True

    def positive_part(gradient: Tensor) -> Tensor:
        # A loss on the map passes here once more, in its own backward pass, and needs the true gradient.
        return gradient.relu() if active else gradient

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not inputs[0].requires_grad:
            return None
        # A view of its own: the input itself may have other readers, whose gradients must not be clamped.
        x = inputs[0].view_as(inputs[0])
        x.register_hook(positive_part)  # type: ignore[no-untyped-call]
        return (x, *inputs[1:])

    handles = []
    try:
        for module in model.modules():
            if isinstance(module, tuple(GUIDED)):
                handles.append(module.register_forward_pre_hook(watch))
        yield
    finally:
        active = False
        for handle in handles:
            handle.remove()


def _guided_gradient(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool
) -> Tensor:
    """Gradient [M, C, h, w] by the features at `depth`, a row for each pair."""
    features = out.features[depth] if create_graph else out.features[depth].detach()
    with full_precision(features.index_select(0, image)) as x, evaluation_mode(model), torch.enable_grad():
        if len(image) == 0:
            return x
        if not create_graph:
            x.requires_grad_()
        with guided(model):
            logits = model.upper(x, depth).logits
            selected = logits.gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(selected, x, create_graph=create_graph)
        return gradient
