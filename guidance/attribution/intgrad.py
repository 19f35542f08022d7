"""Integrated gradients by quadrature, for any net and any depth."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.gradient import Explainable, evaluation_mode, ixg
from guidance.maps import full_precision
from guidance.types import Forward


def intgrad(
    model: Explainable,
    out: Forward,
    depth: str,
    image: Tensor,
    target: Tensor,
    *,
    create_graph: bool,
    rounds: int,
    steps: int = 20,
) -> Tensor:
    """Integrated gradients from a zero baseline: sum_c x_c * (mean over the path of df/dx_c).

    Sundararajan et al. 2017, Eq. 1. The path is the straight line from 0 to the features x at `depth` (at the input:
    from the mean colour, if images are normalised), sampled at the midpoints of `steps` equal parts. As `steps`
    grows, a map sums to f(x) - f(0), where f is the net in evaluation mode: the points of the path neither use nor
    update batch statistics, and nothing is dropped out. Costs `steps` passes through the upper part of the net, on M
    rows; `rounds` is not used, each pair having a row of its own. Differentiable with `create_graph`, at the memory
    of all `steps` graphs.

    Where the net is nonnegatively homogeneous (X-DNN) the gradient is the same all along the path, and the exact integral is
    input times gradient (Hesse et al. 2021, Prop. 3.1), whatever `steps` is.
    """
    if model.homogeneous:
        return ixg(model, out, depth, image, target, create_graph=create_graph, rounds=rounds)
    if steps < 1:
        raise ValueError(f"steps of intgrad must be at least 1, not {steps}")
    features = out.features[depth] if create_graph else out.features[depth].detach()
    with full_precision(features[image]) as x, evaluation_mode(model), torch.enable_grad():
        if len(image) == 0:
            return x.sum(1)
        mean = torch.zeros_like(x)
        for step in range(steps):
            point = x * ((step + 0.5) / steps)
            if not create_graph:
                point.requires_grad_()
            logits = model.upper(point, depth).logits
            selected = logits.gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(selected, point, create_graph=create_graph)
            mean = mean + gradient / steps
        return (x * mean).sum(1)
