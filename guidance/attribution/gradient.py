"""Attributions from one gradient: input times gradient, GradCAM, and the gradient routine that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.maps import full_precision
from guidance.types import Forward


@runtime_checkable
class Explainable(Protocol):
    """What an attribution needs of a net; `guidance.models.classifier.Classifier` has it."""

    def upper(self, features: Tensor, depth: str) -> Forward: ...
    def linearized(self) -> AbstractContextManager[None]: ...
    @property
    def dynamic(self) -> bool: ...  # whether linearized() changes gradients
    @property
    def homogeneous(self) -> bool: ...  # whether f(a x) = a f(x) for a > 0, from every depth
    @property
    def layerwise(self) -> bool: ...  # whether every forward pass under gradients offers pullbacks at every depth
    def modules(self) -> Iterator[nn.Module]: ...


class Attribution(Protocol):
    """An attribution method: raw signed maps [M, h, w] of M (image, class) pairs; options by functools.partial.

    `guidance.attribution.attribute` describes the arguments, checks them, and turns gradients on.
    """

    def __call__(
        self,
        model: Explainable,
        out: Forward,
        depth: str,
        image: Tensor,
        target: Tensor,
        *,
        create_graph: bool,
        rounds: int,
    ) -> Tensor: ...


def ixg(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int
) -> Tensor:
    """Input times gradient, summed over channels: sum_c x_c * df/dx_c.

    Exact for piecewise linear nets without biases, where it equals integrated gradients (X-DNN) and the maps sum to
    the logit; dynamic-linear nets (B-cos) give their own explanation, because the gradient is taken in their
    linearised mode.
    """
    gradient = gradients(model, out, depth, image, target, create_graph=create_graph, rounds=rounds)
    with full_precision(gradient) as g:
        return (_rows(out, depth, image, create_graph).to(g.dtype) * g).sum(1)


def bcos(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int
) -> Tensor:
    """Contributions of a dynamic-linear net y = W(x) x: the row of W(x) times x, summed over channels.

    Böhle et al. 2024, Eq. 8. Maps at the input sum to the logit without its bias (in a ViT, together with those of the
    positional embedding). Nets without dynamic factors have W(x) as their gradient, and get the map of `ixg`.
    """
    return ixg(model, out, depth, image, target, create_graph=create_graph, rounds=rounds)


def gradcam(
    model: Explainable, out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int
) -> Tensor:
    """GradCAM: relu(sum_c mean_hw(df/dx_c) * x_c), never negative (Selvaraju et al. 2017, Eq. 1 and 2).

    Not divided by its maximum, as many libraries do: the scale is what makes the maps of two classes comparable. As
    in the published code of model guidance, dynamic-linear nets are not linearised for it.
    """
    gradient = gradients(model, out, depth, image, target, create_graph=create_graph, rounds=rounds, linearize=False)
    with full_precision(gradient) as g:
        weights = g.mean((2, 3), keepdim=True)
        return (_rows(out, depth, image, create_graph).to(g.dtype) * weights).sum(1).relu()


def gradients(
    model: Explainable,
    out: Forward,
    depth: str,
    image: Tensor,
    target: Tensor,
    *,
    create_graph: bool,
    rounds: int,
    linearize: bool = True,
) -> Tensor:
    """Gradient of the logit `target[m]` of image `image[m]` with respect to its features at `depth`: [M, C, h, w].

    One backward pass explains one pair of every image, so `rounds`, the largest number of pairs on one image, passes
    explain all of them. All `rounds` passes run whatever M is: a net that synchronises statistics over processes
    needs each process to run as many. `rounds` below what the pairs need is an index error. With batch statistics in
    training mode the gradient of a pair holds contributions of the other images of its round, as in the published
    code. Where the net offers a pullback it is used instead: the same gradient, of the named images alone, without a
    double backward.
    """
    features = out.features[depth]
    if rounds == 0:
        return _rows(out, depth, image, create_graph)
    if depth in out.pullbacks and (linearize or not model.dynamic):
        return _pull_back(out, depth, image, target, create_graph=create_graph, rounds=rounds)
    same_image = image[:, None] == image[None, :]
    slot = same_image.tril(-1).sum(1)  # how many earlier pairs are on the same image
    selected = out.logits[image, target]
    passes = []
    with torch.autocast(features.device.type, enabled=False):
        for turn in range(rounds):
            total = (selected * (slot == turn)).sum()
            # Only around this gradient: the backward pass of the loss must see the net as it is.
            with model.linearized() if linearize else nullcontext():
                (gradient,) = torch.autograd.grad(total, features, retain_graph=True, create_graph=create_graph)
            passes.append(gradient)
        every = passes[0] if rounds == 1 else torch.cat(passes)
        return every[slot * len(features) + image]


def _pull_back(out: Forward, depth: str, image: Tensor, target: Tensor, *, create_graph: bool, rounds: int) -> Tensor:
    if len(image) == 0:
        return _rows(out, depth, image, create_graph)
    logits = out.logits
    precision = torch.promote_types(logits.dtype, torch.float32)
    with torch.set_grad_enabled(create_graph), torch.autocast(logits.device.type, enabled=False):
        # Every image once: whole tensors need no selection of rows, except at the end.
        once = rounds == 1 and len(image) == len(logits)
        if once:
            target = torch.empty_like(target).scatter(0, image, target)
        selected = functional.one_hot(target, logits.shape[1]).to(precision)
        gradient = out.pullbacks[depth](selected, None if once else image)
        return gradient.index_select(0, image) if once else gradient


def _rows(out: Forward, depth: str, image: Tensor, create_graph: bool) -> Tensor:
    features = out.features[depth]
    return (features if create_graph else features.detach()).index_select(0, image)


@contextmanager
def evaluation_mode(model: Explainable) -> Iterator[None]:
    """Every module in evaluation mode inside the block, and back in its own mode after it, also after an exception."""
    modes: list[tuple[nn.Module, bool]] = [(module, module.training) for module in model.modules()]
    # The attribute, not train(): nets that keep some layers frozen override it, and it would undo single choices.
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
