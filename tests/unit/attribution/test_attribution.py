"""Attributions: definitions, batches, several classes per image, training through them, and what they leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.func import functional_call

from guidance.attribution import ATTRIBUTIONS, Request
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.classifier import Classifier, evaluation_mode
from tests.reference import attributions as reference
from tests.support.explaining import attribute
from tests.support.nets import tiny

DEPTHS = ("input", "mid1", "mid2", "final")
each_method = pytest.mark.parametrize("method", ATTRIBUTIONS)
each_depth = pytest.mark.parametrize("depth", DEPTHS)


class Observed(Classifier):
    """Notes when it is linearised."""

    active = False
    log: list[str]

    def linearized(self) -> AbstractContextManager[None]:
        return self._linearized()

    @contextmanager
    def _linearized(self) -> Iterator[None]:
        self.active = True
        self.log = [*getattr(self, "log", []), "on"]
        try:
            yield
        finally:
            self.active = False
            self.log = [*self.log, "off"]


def images(batch: int = 3, channels: int = 2) -> Tensor:
    return torch.randn(batch, channels, 6, 6, dtype=torch.float64).requires_grad_()


def pairs(*values: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(values, dtype=torch.long).reshape(-1, 2).unbind(1))  # type: ignore[return-value]


def maps(method: str, model: Classifier, x: Tensor, depth: str, *which: tuple[int, int]) -> Tensor:
    return attribute(method, model, model(x), depth, *pairs(*which), create_graph=True)


# Definitions


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


# Batches and classes


@each_method
@each_depth
def test_a_batch_equals_its_images_one_by_one(method: str, depth: str) -> None:
    model, x = tiny(), images(4)
    together = maps(method, model, x, depth, (0, 2), (2, 0), (3, 1))
    for m, (row, target) in enumerate([(0, 2), (2, 0), (3, 1)]):
        alone = maps(method, model, x[row : row + 1], depth, (0, target))
        torch.testing.assert_close(together[m : m + 1], alone)


@each_method
@each_depth
def test_several_classes_of_an_image_equal_one_at_a_time_in_any_order(method: str, depth: str) -> None:
    model, x = tiny(), images(3)
    which = [(2, 0), (0, 1), (2, 2), (0, 0), (1, 1), (2, 1), (2, 1)]
    together = maps(method, model, x, depth, *which)
    for m, pair in enumerate(which):
        torch.testing.assert_close(together[m : m + 1], maps(method, model, x, depth, pair))


@each_method
def test_the_gradient_of_several_classes_equals_one_at_a_time(method: str) -> None:
    model, x = tiny(), images(2)
    which = [(1, 0), (0, 1), (1, 2)]
    weights = torch.randn(3, 5, 5, dtype=torch.float64)
    parameters = list(model.parameters())
    together = torch.autograd.grad(
        (maps(method, model, x, "mid1", *which) * weights).sum(), parameters, materialize_grads=True
    )
    total = [torch.zeros_like(p) for p in parameters]
    for m, pair in enumerate(which):
        value = (maps(method, model, x, "mid1", pair) * weights[m]).sum()
        for t, g in zip(total, torch.autograd.grad(value, parameters, materialize_grads=True), strict=True):
            t += g
    torch.testing.assert_close(list(together), total)


@each_method
def test_more_rounds_than_needed_change_nothing(method: str) -> None:
    model, x = tiny(), images(3)
    out, which = model(x), pairs((0, 1), (2, 0))
    expected = attribute(method, model, out, "mid1", *which, create_graph=False, rounds=1)
    for rounds in (None, 2, 5):
        result = attribute(method, model, out, "mid1", *which, create_graph=False, rounds=rounds)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("method", ["ixg", "gradcam"])
def test_fewer_rounds_than_needed_are_an_error_not_a_wrong_map(method: str) -> None:
    model = tiny()
    with pytest.raises(IndexError):
        attribute(method, model, model(images(1)), "mid1", *pairs((0, 1), (0, 2)), create_graph=False, rounds=1)


@each_method
@pytest.mark.parametrize("rounds", [0, 1, 3, None])
@pytest.mark.parametrize("create_graph", [False, True])
def test_no_pairs_give_no_maps(method: str, rounds: int | None, create_graph: bool) -> None:
    model = tiny()
    result = attribute(method, model, model(images()), "mid1", *pairs(), create_graph=create_graph, rounds=rounds)
    assert result.shape == (0, 5, 5)
    assert result.requires_grad == create_graph
    if create_graph:
        result.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("count", [0, 2])
def test_every_process_runs_the_same_number_of_backward_passes(count: int) -> None:
    """A synchronised norm exchanges statistics in each of them, also where a process has no pair, and in their backward."""
    passes: list[str] = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
            passes.append("backward")
            return Counted.apply(gradient)

    net = tiny().net
    stages = {"mid1": ["stage1"], "final": [Counted.apply, "stage2"], "logits": [lambda x: x.mean((2, 3))]}
    model = Classifier(net, stages)
    out = model(images())
    result = attribute("ixg", model, out, "mid1", *pairs(*[(0, 1), (2, 0)][:count]), create_graph=True, rounds=3)
    assert len(passes) == 3
    result.sum().backward()
    assert len(passes) == 3 + 3 + 1  # once for each round's own gradient, and once for the features of the forward


# Training through a map


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
@pytest.mark.parametrize("loss", LOCALIZATION_LOSSES)
@pytest.mark.parametrize("depth", ["input", "final"])
@pytest.mark.parametrize("activation", ["softplus", "tanh"])
def test_gradcheck_of_the_parameters_through_the_double_backward(
    method: str, loss: str, depth: str, activation: str
) -> None:
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
    if (method, depth) != ("guided_backprop", "final"):  # there the map is a constant, and so are losses of its shape
        assert any(g is not None and g.any() for g in torch.autograd.grad(start, values, allow_unused=True))
    inputs = tuple(v.detach().clone().requires_grad_() for v in values)
    slow = loss == "energy" and activation == "softplus"
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


# Precision


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


# What is left behind


def state(model: nn.Module) -> dict[str, object]:
    modules = {
        name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for name, m in model.named_modules()
    }
    tensors = {name: (t.requires_grad, t.grad, t._version) for name, t in model.state_dict(keep_vars=True).items()}
    return modules | tensors


@each_method
@pytest.mark.parametrize("failing", [False, True])
def test_modes_hooks_and_gradients_are_left_as_they_were(method: str, failing: bool) -> None:
    model = tiny(norm=nn.BatchNorm2d, dropout=0.5).train()
    model.net.stage2.eval()  # modes differ between modules
    out = model(images())
    before = state(model)
    which = pairs((0, 1), (1, 99)) if failing else pairs((0, 1), (1, 2))
    if failing:
        with pytest.raises((IndexError, RuntimeError)):
            attribute(method, model, out, "mid1", *which, create_graph=True)
    else:
        attribute(method, model, out, "mid1", *which, create_graph=True)
    assert state(model) == before
    assert torch.is_grad_enabled()


def test_the_linearised_mode_is_on_for_the_gradient_only() -> None:
    model = tiny(kind=Observed)
    assert isinstance(model, Observed)
    out = model(images())
    result = attribute("ixg", model, out, "mid1", *pairs((0, 1), (0, 2)), create_graph=True)
    assert model.log == ["on", "off", "on", "off"]
    seen: list[bool] = []
    out.features["mid1"].register_hook(lambda _: seen.append(model.active))
    result.sum().backward()
    assert seen == [False]
    attribute("gradcam", model, model(images()), "mid1", *pairs((0, 1)), create_graph=False)
    assert model.log == ["on", "off", "on", "off"]


def test_the_linearised_mode_is_active_while_the_gradient_is_taken_and_off_after_an_exception() -> None:
    model = tiny(kind=Observed)
    assert isinstance(model, Observed)
    out = model(images())
    seen: list[bool] = []

    def fail(_: Tensor) -> None:
        seen.append(model.active)
        raise RuntimeError("in the backward pass")

    out.features["mid2"].register_hook(fail)
    with pytest.raises(RuntimeError, match="in the backward pass"):
        attribute("ixg", model, out, "mid1", *pairs((0, 1)), create_graph=True)
    assert seen == [True]
    assert not model.active


def test_path_points_neither_use_nor_change_batch_statistics_and_drop_nothing() -> None:
    model, x = tiny(norm=nn.BatchNorm2d, dropout=0.5), images(4)
    model.train()
    for _ in range(3):
        model(x)  # statistics that differ from the initial ones
    statistics = {name: b.clone() for name, b in model.named_buffers()}
    model.eval()
    expected = maps("intgrad", model, x, "input", (0, 1), (3, 2))
    model.train()
    with torch.no_grad():
        out = model.explainable(x.detach(), "input")  # this forward, in training mode, does change them
    for name, buffer in model.named_buffers():
        buffer.copy_(statistics[name])
    result = attribute("intgrad", model, out, "input", *pairs((0, 1), (3, 2)), create_graph=False)
    torch.testing.assert_close(result, expected.detach())
    assert all(torch.equal(b, statistics[name]) for name, b in model.named_buffers())
    assert all(m.training for m in model.modules())


def test_evaluation_mode_is_undone_after_an_exception() -> None:
    model = tiny(dropout=0.5).train()
    model.net.stage1.eval()
    before = [m.training for m in model.modules()]

    def fail() -> None:
        with evaluation_mode(model):
            assert not any(m.training for m in model.modules())
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert [m.training for m in model.modules()] == before


# Mistakes


def test_mistakes_are_named() -> None:
    model, x = tiny(), images()
    out, which = model(x), pairs((0, 1))
    explain = partial(attribute, create_graph=False)
    with pytest.raises(ValueError, match=r"unknown attribution 'gradcamm'.*'gradcam'"):
        explain("gradcamm", model, out, "final", *which)
    with pytest.raises(ValueError, match=r"unknown depth 'finale'.*'final'"):
        explain("ixg", model, out, "finale", *which)
    with pytest.raises(ValueError, match=r"images\.requires_grad_\(\)"):
        explain("ixg", model, model(x.detach()), "input", *which)
    with torch.no_grad():
        frozen = model(x)
    with pytest.raises(ValueError, match=r"no_grad"):
        explain("ixg", model, frozen, "mid1", *which)
    with pytest.raises(ValueError, match=r"shapes \[2\] and \[1, 3\]"):
        explain("ixg", model, out, "mid1", torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(ValueError, match="at least 1 to explain 1 pairs, not 0"):
        explain("ixg", model, out, "mid1", *which, rounds=0)
    with pytest.raises(ValueError, match="steps of intgrad"):
        explain(ATTRIBUTIONS["intgrad"].bind({"steps": 0}), model, out, "mid1", *which)


def test_a_function_is_a_method() -> None:
    def share(model: object, request: Request) -> Tensor:
        assert request.rounds == 2
        return request.state().sum(1)

    model = tiny()
    out = model(images())
    result = attribute(share, model, out, "mid1", *pairs((0, 1), (0, 2)), create_graph=True)
    torch.testing.assert_close(result, out.features["mid1"][[0, 0]].sum(1))
