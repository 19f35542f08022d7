"""Saliency maps: by hand, against captum, at states that are no grids, and what they are for nets that have more gradients."""

from __future__ import annotations

import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

from guidance.models.bcos.modules import BcosConv2d
from guidance.models.classifier import Classifier, Depth
from tests.support.explaining import attribute, images, maps, pairs
from tests.support.nets import global_average, tiny


def test_the_largest_channel_counts_without_its_sign() -> None:
    """Two channels of 1 x 2 cells: logit = 1 x00 + 2 x01 - 3 x10 + 0 x11."""
    net = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0, -3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    model = Classifier(net, {"final": [lambda x: x * 1.0], "logits": [lambda x: x.flatten(1), "0"]})
    x = torch.tensor([[[[5.0, -7.0]], [[0.0, 1.0]]]], requires_grad=True)
    assert maps("saliency", model, x, "input", (0, 0), (0, 1)).tolist() == [[[3.0, 2.0]], [[0.0, 0.0]]]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_equals_captum(activation: str) -> None:
    model, x = tiny(activation=activation), images(3)
    image, target = pairs((0, 2), (1, 0), (1, 1), (2, 2))

    class Logits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x).logits

    theirs = Saliency(Logits()).attribute(x[image].detach().requires_grad_(), target=target, abs=True).amax(1)
    ours = attribute("saliency", model, model(x), "input", image, target, create_graph=False)
    torch.testing.assert_close(ours, theirs)


def test_states_that_are_no_grids_become_one() -> None:
    """Tokens [B, 1 + 4, C] with a class token in front: its gradient has no cell."""

    def tokens(x: Tensor) -> Tensor:
        cells = x.flatten(2).transpose(1, 2)
        return torch.cat((cells.mean(1, keepdim=True), cells), 1)

    def cells(state: Tensor) -> Tensor:
        return state[:, 1:].transpose(1, 2).unflatten(2, (2, 2))

    net = nn.Sequential(nn.Linear(5 * 3, 2)).double()
    model = Classifier(net, {"final": Depth([tokens], cells), "logits": [lambda x: x.flatten(1), "0"]})
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    expected = net[0].weight[1].view(5, 3)[1:].abs().amax(1).view(2, 2)
    torch.testing.assert_close(maps("saliency", model, x, "final", (0, 1), (1, 1)), expected.expand(2, 2, 2))


@pytest.mark.parametrize("training", [True, False])
def test_of_a_dynamic_net_it_is_the_true_gradient(training: bool) -> None:
    """Not the row of W(x), which is what the net says of itself."""
    net = nn.Sequential(BcosConv2d(6, 4, 3), BcosConv2d(4, 3, 1)).double()
    model = Classifier(net, {"final": ["0"], "logits": ["1", global_average]}).train(training)
    x = torch.rand(2, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    out = model(x)
    (gradient,) = torch.autograd.grad(out.logits[0, 1] + out.logits[1, 2], x, retain_graph=True)
    found = attribute("saliency", model, out, "input", *pairs((0, 1), (1, 2)), create_graph=False)
    torch.testing.assert_close(found, gradient.abs().amax(1))
    with model.linearized():
        (row,) = torch.autograd.grad(out.logits[0, 1] + out.logits[1, 2], x)
    assert not torch.allclose(found, row.abs().amax(1), rtol=0.05)
