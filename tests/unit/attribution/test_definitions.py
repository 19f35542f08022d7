"""What each method is: finite differences, nets by hand, and completeness."""

from __future__ import annotations

import torch
from torch import nn

from guidance.attribution import ATTRIBUTIONS
from guidance.models.classifier import Classifier
from tests.reference import attributions as reference
from tests.support.explaining import attribute, each_depth, each_method, images, maps, pairs
from tests.support.nets import tiny


@each_method
@each_depth
def test_equals_finite_differences(method: str, depth: str) -> None:
    model, x = tiny(), images(2)
    out = model(x)
    which = [(0, 2), (1, 0), (1, 1)]
    result = attribute(method, model, out, depth, *pairs(*which), create_graph=False)
    for m, (row, target) in enumerate(which):
        features = out.features[depth][row : row + 1].detach()
        expected = reference.ATTRIBUTIONS[method](model, features, depth, target)
        torch.testing.assert_close(result[m], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_ixg_and_gradcam_of_a_linear_net_by_hand() -> None:
    """One 1 x 1 convolution, mean over 4 cells, one class: the gradient is the same in every cell."""
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]).reshape(2, 2, 1, 1))
        net[1].weight.copy_(torch.tensor([[4.0, 8.0]]))
    model = Classifier(net, {"final": ["0"], "logits": [lambda x: x.mean((2, 3)), "1"]})
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]], requires_grad=True)
    # Logit = sum over cells of (4 * x_0 - 16 * x_1) / 4.
    expected = torch.tensor([[[1.0, -2.0], [3.0, 8.0]]])
    assert torch.equal(maps("ixg", model, x, "input", (0, 0)), expected)
    assert torch.equal(maps("ixg", model, x, "final", (0, 0)), expected)
    assert torch.equal(maps("gradcam", model, x, "input", (0, 0)), expected.relu())
    assert torch.equal(maps("gradcam", model, x, "final", (0, 0)), expected.relu())
    torch.testing.assert_close(maps("intgrad", model, x, "input", (0, 0)), expected)


def test_gradcam_averages_the_gradient_before_it_multiplies() -> None:
    """A net whose gradient differs between cells: logit = x[0] + 3 * x[1], mean gradient 2."""
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 3.0]]))
    model = Classifier(net, {"final": [lambda x: x * 1.0], "logits": [lambda x: x.flatten(1), "0"]})
    x = torch.tensor([[[[5.0, -7.0]]]], requires_grad=True)
    assert maps("gradcam", model, x, "final", (0, 0)).tolist() == [[[10.0, 0.0]]]
    assert maps("ixg", model, x, "final", (0, 0)).tolist() == [[[5.0, -21.0]]]


@each_depth
def test_integrated_gradients_complete_the_logit(depth: str) -> None:
    model, x = tiny(activation="tanh"), images(2)
    out = model(x)
    with torch.no_grad():
        gap = out.logits - model.upper(torch.zeros_like(out.features[depth]), depth).logits
    errors = []
    for steps in (4, 64):
        result = attribute(
            ATTRIBUTIONS["intgrad"].bind({"steps": steps}),
            model,
            out,
            depth,
            *pairs((0, 1), (1, 2)),
            create_graph=False,
        )
        errors.append((result.sum((1, 2)) - gap[[0, 1], [1, 2]]).abs().max().item())
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 20 or errors[0] < 1e-9  # midpoints: the error falls with the square of the steps


@each_depth
def test_without_biases_ixg_is_integrated_gradients_and_complete(depth: str) -> None:
    model, x = tiny(activation="relu", bias=False), images(2)
    result = maps("ixg", model, x, depth, (0, 1), (1, 2))
    torch.testing.assert_close(result, maps("intgrad", model, x, depth, (0, 1), (1, 2)))
    torch.testing.assert_close(result.sum((1, 2)), model(x).logits[[0, 1], [1, 2]])
    torch.testing.assert_close(model(2 * x).logits, 2 * model(x).logits)
