"""Maps of a batch and of several classes per image are those of one pair at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from guidance.models.classifier import Classifier
from tests.support.explaining import attribute, each_depth, each_method, images, maps, pairs
from tests.support.nets import tiny


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
