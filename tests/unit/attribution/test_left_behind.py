"""What an attribution leaves behind: modes, hooks, gradients and batch statistics as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn

from guidance.models.classifier import Classifier, evaluation_mode
from tests.support.explaining import attribute, each_method, images, maps, pairs
from tests.support.nets import tiny


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
