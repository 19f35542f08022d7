"""What every wrapped net is asked: that it computes what the bare one does, and that it can be explained and guided."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from guidance.attribution import Request, attribute, explain, one_hot
from guidance.models.classifier import Classifier
from guidance.models.wrapping import wrap

STEP = 1e-8  # of the finite differences: small, because maps of a ReLU net jump where a unit switches


def maps_in_graph(model: Classifier, images: Tensor, depth: str, method: str = "ixg") -> Tensor:
    """The maps [B, h, w] of one class of each image, in the graph."""
    out = model(images.clone().requires_grad_())
    seed = one_hot(torch.arange(len(images)), out.logits.shape[1])
    request = Request(method, depth, torch.arange(len(images)), seed, create_graph=True, out=out)
    return attribute(model, request)


def guided_loss(model: Classifier, images: Tensor, depth: str) -> Tensor:
    """A smooth loss on maps: the share of their squares that lies in the upper half."""
    maps = maps_in_graph(model, images, depth)
    squares = maps.square().mean(2)
    return squares[:, : (squares.shape[1] + 1) // 2].sum() / squares.sum()


def check_maps(model: Classifier, images: Tensor) -> None:
    """Maps of every depth are finite, of the size of its grid, and not all zero."""
    with torch.no_grad():
        out = model(images)
    seed = one_hot(torch.arange(len(images)), out.logits.shape[1])
    for depth, state in out.features.items():
        size = model.cells(state, depth).shape[2:]
        for method in ("ixg", "gradcam"):
            maps, _ = explain(model, images, Request(method, depth, torch.arange(len(images)), seed))
            assert maps.shape == (len(images), *size)
            assert torch.isfinite(maps).all()
        assert maps.shape[1:] == (images.shape[2:] if depth == "input" else size)


def check_gradients(model: Classifier, images: Tensor, depth: str) -> None:
    """A guided step at the depth: finite gradients of the parameters, and along one direction the central difference."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    directions = [torch.randn_like(p) for p in parameters]
    length = torch.cat([d.flatten() for d in directions]).norm()
    gradients = torch.autograd.grad(guided_loss(model, images, depth), parameters, allow_unused=True)
    assert any(g is not None for g in gradients)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    expected = sum(float((g * d).sum() / length) for g, d in zip(gradients, directions, strict=True) if g is not None)

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d * (step / length))
        return float(guided_loss(model, images, depth).detach())

    # Of three neighbouring differences the middle one: a map that jumps spoils one of them.
    losses = [moved(STEP * steps) for steps in (-3, 2, 2, 2)]
    found = sorted((after - before) / (2 * STEP) for before, after in pairwise(losses))[1]
    scale = float(torch.cat([g.flatten() for g in gradients if g is not None]).norm()) / float(length)
    assert abs(found - expected) < 1e-3 * max(abs(expected), scale), (found, expected, scale)


def wrapped(net: nn.Module, images: Tensor, depths: dict[str, str] | None = None) -> Classifier:
    """`net` in evaluation mode, wrapped; checked to have kept its logits and its state dict. Its norms have seen images."""
    with torch.no_grad():
        net.train()(images)
    net.eval()
    with torch.no_grad():
        expected = net(images)
    state = {name: x.clone() for name, x in net.state_dict().items()}
    model = wrap(net, depths, example=images)
    torch.testing.assert_close(model(images).logits, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(net(images), expected, rtol=1e-10, atol=1e-12)
    assert model.net is net
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in net.state_dict().items())
    return model
