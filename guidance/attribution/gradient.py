"""Attributions from one gradient: itself, input times gradient, GradCAM, saliency; and the routine that all methods share."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from guidance.attribution.request import Explainable, Method, Request
from guidance.maps import full_precision
from guidance.models.pullback.rules import Answered
from guidance.types import Forward


def ixg(model: Explainable, request: Request) -> Tensor:
    """Input times gradient, summed over channels: sum_c x_c * df/dx_c.

    Exact for piecewise linear nets without biases, where it equals integrated gradients (X-DNN) and the maps sum to
    the logit; dynamic-linear nets (B-cos) give their own explanation, because the gradient is taken in their
    linearised mode.
    """
    gradient = gradients(model, request)
    with full_precision(gradient) as g:
        return model.cells(state(request).to(g.dtype) * g, request.depth).sum(1)


def bcos(model: Explainable, request: Request) -> Tensor:
    """Contributions of a dynamic-linear net y = W(x) x: the row of W(x) times x, summed over channels.

    Böhle et al. 2024, Eq. 8. Maps at the input sum to the logit without its bias (in a ViT, together with those of the
    positional embedding). Nets without dynamic factors have W(x) as their gradient, and get the map of `ixg`.
    """
    return ixg(model, request)


def gradcam(model: Explainable, request: Request) -> Tensor:
    """GradCAM: relu(sum_c mean_hw(df/dx_c) * x_c), never negative (Selvaraju et al. 2017, Eq. 1 and 2).

    Not divided by its maximum, as many libraries do: the scale is what makes the maps of two classes comparable. As
    in the published code of model guidance, dynamic-linear nets are not linearised for it (`Method.linearizes`).
    """
    gradient = gradients(model, request)
    with full_precision(gradient) as g:
        weights = model.cells(g, request.depth).mean((2, 3), keepdim=True)
        return (model.cells(state(request).to(g.dtype), request.depth) * weights).sum(1).relu()


def saliency(model: Explainable, request: Request) -> Tensor:
    """Saliency map: max_c |df/dx_c|, never negative (Simonyan et al. 2014, Sec. 3.1).

    How much the logit can change with a cell, not which way. The paper takes the gradient by the images; here it is that by the
    features at any depth, over as many channels as they have. It is the true gradient: dynamic-linear nets are not
    linearised for it (`Method.linearizes`), because their row of W(x) is another thing (`bcos`). A loss on the maps can be
    trained through wherever a cell's largest channel is one alone and not zero; at a zero the derivative is taken as zero.
    """
    gradient = gradients(model, request)
    with full_precision(gradient) as g:
        return model.cells(g, request.depth).abs().amax(1)


def gradient(model: Explainable, request: Request) -> Tensor:
    """The gradient, summed over channels: sum_c df/dx_c, signed.

    How the logit moves with a cell, all its channels alike; maps of Guided Backprop are the same sum of another gradient, and
    `saliency` looks at the size of the largest channel alone. Dynamic-linear nets are not linearised for it, as for that.
    """
    found = gradients(model, request)
    with full_precision(found) as g:
        return model.cells(g, request.depth).sum(1)


def forward_of(request: Request) -> Forward:
    """What the net returned; ValueError where the request does not hold it."""
    if request.out is None:
        raise ValueError(
            "the request has no forward pass: use explain(model, images, request), or set out=model(images)"
        )
    return request.out


def state(request: Request) -> Tensor:
    """What the net computed at the depth for each map [M, ...]: in the graph with `create_graph`, else detached."""
    features = forward_of(request).features[request.depth]
    return (features if request.create_graph else features.detach()).index_select(0, request.rows)


def gradients(model: Explainable, request: Request) -> Tensor:
    """Gradient of what each map explains with respect to the features of its image at `request.depth`: [M, C, h, w].

    One backward pass explains one map of every image, so `rounds`, the largest number of maps of one image, passes
    explain all of them. All `rounds` passes run whatever M is: a net that synchronises statistics over processes
    needs each process to run as many. `rounds` below what the maps need is an index error. With batch statistics in
    training mode the gradient of a map holds contributions of the other images of its round, as in the published
    code. Where the net offers a pullback it is used instead: the same gradient, of the named images alone, without a
    double backward.
    """
    out, rows, rounds = forward_of(request), request.rows, request.rounds
    assert rounds is not None
    assert isinstance(request.method, Method)
    linearize = request.method.linearizes
    if rounds == 0:
        return state(request)
    if request.depth in out.pullbacks and (linearize or not model.dynamic):
        return _pull_back(out, request)
    features = out.features[request.depth]
    slot, passes = turns(rows), []
    with torch.autocast(features.device.type, enabled=False):
        logits = out.logits.index_select(0, rows)
        for turn in range(rounds):
            # Only around this gradient: the backward pass of the loss must see the net as it is.
            with model.linearized() if linearize else nullcontext():
                seed = request.seed * (slot == turn)[:, None]
                passes.append(one_gradient(logits, seed, features, create_graph=request.create_graph, keep=True))
        every = passes[0] if rounds == 1 else torch.cat(passes)
        return every[slot * len(features) + rows]


def turns(rows: Tensor) -> Tensor:
    """[M] long: in which round each of the maps of `rows` [M] is explained: how many earlier ones are of the same image."""
    return (rows[:, None] == rows[None, :]).tril(-1).sum(1)


def one_gradient(logits: Tensor, seed: Tensor, by: Tensor, *, create_graph: bool, keep: bool = False) -> Tensor:
    """Gradient of sum(seed * logits), both [M, K], in the shape of `by`. `keep`: the graph will be asked again."""
    total = (logits * seed.to(logits.dtype)).sum()
    (gradient,) = torch.autograd.grad(total, by, retain_graph=keep or create_graph, create_graph=create_graph)
    return gradient


def restarted_gradient(model: Explainable, start: Tensor, request: Request) -> Tensor:
    """As `gradients`, by `start` [M, ...], a row for each map, from which the net above the depth runs again.

    Call it in `evaluation_mode`, so that it neither uses nor updates batch statistics, and nothing is dropped out.
    """
    with torch.enable_grad():
        if not request.create_graph:
            start.requires_grad_()
        logits = model.upper(start, request.depth).logits
        return one_gradient(logits, request.seed, start, create_graph=request.create_graph)


def asked(request: Request, images: int) -> tuple[Tensor, Tensor | None]:
    """What a request for a batch of so many images asks a pullback: seeds and rows."""
    seed, rows = request.seed, request.rows
    # Every image once: whole tensors need no selection of rows, except at the end.
    if request.rounds == 1 and len(rows) == images:
        return torch.empty_like(seed).index_copy(0, rows, seed), None
    return seed, rows


def pull_back(out: Forward, depth: str, seed: Tensor, rows: Tensor | None) -> Tensor:
    """What the pullback to `depth` makes of seeds, in full precision."""
    precision = torch.promote_types(out.logits.dtype, torch.float32)
    with torch.autocast(out.logits.device.type, enabled=False):
        return out.pullbacks[depth](seed.to(precision), rows)


def _pull_back(out: Forward, request: Request) -> Tensor:
    if len(request.rows) == 0:
        return state(request)
    with torch.set_grad_enabled(request.create_graph):
        seed, rows = asked(request, len(out.logits))
        if rows is not None and not request.create_graph and not isinstance(out.pullbacks[request.depth], Answered):
            # The first pair of each image, then the second, ...: rows that lie one behind the other need no copy.
            order = turns(rows).argsort(stable=True)
            return pull_back(out, request.depth, seed[order], rows[order])[order.argsort()]
        gradient = pull_back(out, request.depth, seed, rows)
        return gradient.index_select(0, request.rows) if rows is None else gradient
