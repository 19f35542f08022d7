"""Training through a map: its gradients, degenerate cases, the device, and the precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.func import functional_call

from guidance.attribution import ATTRIBUTIONS
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.classifier import Classifier
from tests.support.explaining import attribute, each_depth, each_method, images, maps, pairs
from tests.support.nets import tiny

OTHERS = [loss for loss in LOCALIZATION_LOSSES if loss != "energy"]


class Step(nn.Module):
    """Images -> the sum of a localisation loss, with everything that `attribute` asks the model for."""

    def __init__(self, model: Classifier, method: str, depth: str, loss: str) -> None:
        super().__init__()
        self.model, self.depth, self.loss = model, depth, LOCALIZATION_LOSSES[loss].function
        self.method = ATTRIBUTIONS["intgrad"].bind({"steps": 3}) if method == "intgrad" else ATTRIBUTIONS[method]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        image, target = pairs((0, 0), (1, 2), (1, 1))
        out = self.model(x)
        result = attribute(self.method, self.model, out, self.depth, image, target, create_graph=True, rounds=2)
        return self.loss(result, mask).sum()


@each_method
@pytest.mark.parametrize("depth", ["input", "final"])
@pytest.mark.parametrize(("loss", "activation"), [
    ("energy", "softplus"), ("energy", "tanh"),
    *(pytest.param(loss, activation, marks=pytest.mark.long) for activation in ("softplus", "tanh") for loss in OTHERS),
])  # fmt: skip
def test_gradcheck_of_the_parameters_through_the_double_backward(
    method: str, loss: str, depth: str, activation: str
) -> None:
    check_gradients(method, loss, depth, activation)


@pytest.mark.parametrize("depth", ["input", "final"])
@pytest.mark.parametrize("loss", OTHERS)
def test_gradcheck_of_each_loss(loss: str, depth: str) -> None:
    """Losses see maps alone: one method does. Of all methods: the long cases above."""
    check_gradients("ixg", loss, depth, "softplus")


def check_gradients(method: str, loss: str, depth: str, activation: str) -> None:
    model = tiny(activation=activation)
    nn.init.uniform_(model.net.fc.weight, -0.3, 1)  # mostly positive evidence: a map without any has no gradient
    step = Step(model, method, depth, loss)
    names, values = zip(*step.named_parameters(), strict=True)
    x = images(2)
    mask = torch.rand(3, 8, 8) > 0.6

    def value(*parameters: Tensor) -> Tensor:
        result: Tensor = functional_call(step, dict(zip(names, parameters, strict=True)), (x, mask))
        return result

    start = value(*values)
    assert start.isfinite()
    # There the map is a constant, and so are losses of its shape.
    if method not in ("guided_backprop", "saliency", "gradient") or depth != "final":
        assert any(g is not None and g.any() for g in torch.autograd.grad(start, values, allow_unused=True))
    inputs = tuple(v.detach().clone().requires_grad_() for v in values)
    slow = (loss, activation, depth) == ("energy", "softplus", "input")
    assert torch.autograd.gradcheck(value, inputs, fast_mode=not slow, atol=1e-6)


@each_method
@pytest.mark.parametrize("loss", LOCALIZATION_LOSSES)
@pytest.mark.parametrize("depth", ["input", "final"])
@pytest.mark.parametrize("case", ["empty mask", "zero net", "last column"])
def test_degenerate_cases_train_with_finite_gradients(method: str, loss: str, depth: str, case: str) -> None:
    model = tiny(activation="relu")
    mask = torch.rand(3, 8, 8) > 0.5
    if case == "empty mask":
        mask[:] = False
    elif case == "last column":
        mask = torch.zeros(3, 8, 8, dtype=torch.bool)
        mask[:, :, -1] = True
    else:
        # As an untrained Fixup net: the last layer is zero, so every map is.
        nn.init.zeros_(model.net.fc.weight)
    value = Step(model, method, depth, loss)(images(2), mask)
    value.backward()
    assert value.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@each_method
@pytest.mark.parametrize("loss", LOCALIZATION_LOSSES)
def test_a_training_step_never_waits_for_the_device(method: str, loss: str) -> None:
    """Fake tensors have no values: reading one on the host, or a shape that depends on one, raises."""
    with FakeTensorMode():
        step = Step(tiny(), method, "mid1", loss)
        step(images(2), torch.rand(3, 8, 8) > 0.5).backward()
        image, target = pairs((0, 1))
        out = step.model(images(2))
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            attribute(method, step.model, out, "mid1", image, target, create_graph=True, rounds=None)


@each_method
def test_a_map_without_create_graph_has_no_graph(method: str) -> None:
    model = tiny()
    result = attribute(method, model, model(images()), "mid2", *pairs((0, 1)), create_graph=False)
    assert not result.requires_grad


@each_method
@each_depth
def test_maps_for_evaluation_under_no_grad(method: str, depth: str) -> None:
    model, x = tiny(), images()
    expected = maps(method, model, x, depth, (0, 1), (1, 1), (0, 0))
    with torch.no_grad():
        out = model.explainable(x.detach(), depth)
        result = attribute(method, model, out, depth, *pairs((0, 1), (1, 1), (0, 0)), create_graph=False)
    torch.testing.assert_close(result, expected.detach())


@each_method
@pytest.mark.parametrize("depth", ["input", "mid2", "final"])
def test_under_autocast_the_maps_are_float32(method: str, depth: str) -> None:
    model = tiny(dtype=torch.float32)
    x = images().float().detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
        result = attribute(method, model, out, depth, *pairs((0, 1), (1, 2)), create_graph=True)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, maps(method, model, x, depth, (0, 1), (1, 2)), rtol=0.1, atol=0.05)
    result.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@each_method
def test_float64_stays(method: str) -> None:
    assert maps(method, tiny(), images(), "final", (0, 1)).dtype == torch.float64
