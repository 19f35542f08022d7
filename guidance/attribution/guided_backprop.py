"""Guided Backprop and Guided GradCAM: gradients of which every activation lets only the positive part through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn

from guidance.attribution.gradient import forward_of, gradcam, restarted_gradient, state
from guidance.attribution.request import Explainable, Request
from guidance.maps import full_precision, upsample
from guidance.models.classifier import evaluation_mode

CLAMPED: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.GELU: "gelu"}


def guided_backprop(model: Explainable, request: Request) -> Tensor:
    """Guided Backprop, summed over channels: signed (Springenberg et al. 2015, Eq. 6).

    The gradient g of the logit, where every activation hands down only the positive part of the gradient that leaves it.
    At a ReLU that is g * 1[x > 0] * 1[g > 0], as in the paper. At a GELU, of which no paper says anything, it is the positive
    part of g * GELU'(x). Activations of other kinds, and those that are called as functions, pass the plain gradient.
    `clamped_at` says which of these a net has: libraries that know only ReLU (captum) return the plain gradient for a
    GELU net. Runs the upper part of the net again, in evaluation mode, on M rows; `rounds` is not used.
    """
    return model.cells(_clamped_gradient(model, request), request.depth).sum(1)


def guided_gradcam(model: Explainable, request: Request) -> Tensor:
    """Guided Backprop at `depth` times the GradCAM map of the last depth, summed over channels: signed.

    Selvaraju et al. 2017, Sec. 3.2. The map of GradCAM, never negative, is upsampled bilinearly, as in the paper (captum
    takes the nearest cell). The last depth is the last one in `out.features`.
    """
    gradient = _clamped_gradient(model, request)
    cam = gradcam(model, replace(request, depth=list(forward_of(request).features)[-1]))
    with full_precision(gradient) as g:
        cells = model.cells(g, request.depth)
        return upsample(cam, (cells.shape[2], cells.shape[3])) * cells.sum(1)


def clamped_at(model: Explainable) -> str:
    """What Guided Backprop means for this net: the activation modules at which it clamps the gradient.

    "relu", "gelu", "relu+gelu" where the net has both, or "none": there it is the plain gradient.
    """
    found = {name for module in model.modules() for kind, name in CLAMPED.items() if isinstance(module, kind)}
    return "+".join(name for name in CLAMPED.values() if name in found) or "none"


def clamp_remark(model: Explainable) -> str:
    """The same for people."""
    return f"gradients are clamped at {clamped_at(model)}"


@contextmanager
def clamped_gradients(model: Explainable) -> Iterator[None]:
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
            if isinstance(module, tuple(CLAMPED)):
                handles.append(module.register_forward_pre_hook(watch))
        yield
    finally:
        active = False
        for handle in handles:
            handle.remove()


def _clamped_gradient(model: Explainable, request: Request) -> Tensor:
    """Gradient [M, C, h, w] by the features at the depth, a row for each map."""
    with full_precision(state(request)) as x:
        if len(request.rows) == 0:
            return x
        with evaluation_mode(model), clamped_gradients(model):
            return restarted_gradient(model, x, request)
