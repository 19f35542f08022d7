"""Integrated gradients by quadrature, for any net and any depth."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.gradient import forward_of, ixg, restarted_gradient
from guidance.attribution.request import Explainable, Request
from guidance.maps import full_precision
from guidance.models.classifier import evaluation_mode


def intgrad(model: Explainable, request: Request, *, steps: int = 20) -> Tensor:
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
        return ixg(model, request)
    if steps < 1:
        raise ValueError(f"steps of intgrad must be at least 1, not {steps}")
    features = forward_of(request).features[request.depth]
    # Indexing keeps the memory layout of the features, in which their upper part then runs.
    with full_precision((features if request.create_graph else features.detach())[request.rows]) as x:
        if len(request.rows) == 0:
            return model.cells(x, request.depth).sum(1)
        mean = torch.zeros_like(x)
        with evaluation_mode(model):
            for step in range(steps):
                mean = mean + restarted_gradient(model, x * ((step + 0.5) / steps), request) / steps
        return model.cells(x * mean, request.depth).sum(1)
