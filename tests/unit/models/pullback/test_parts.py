"""Passes that leave pullbacks and no graph, whose rows are divided: equal to autograd, and nothing stays behind."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from guidance.attribution import Request, attribute, explain, one_hot
from guidance.models.classifier import Classifier, evaluation_mode
from guidance.models.pullback import stages
from guidance.models.pullback.rules import Pullback, Rows
from tests.support.small_nets import CLASSES, DEPTHS, NETS, build

ROWS = {
    "none": [],
    "one": [2],
    "some, of one image twice": [2, 0, 2],
    "all": [0, 1, 2],
    "all, in another order, and again": [1, 2, 0, 2, 1, 2, 0],
}


def built(name: str) -> tuple[Classifier, Tensor]:
    model, images = build(name)
    model.layerwise_evaluation = True  # as those of the table
    return model, images


@pytest.mark.parametrize("part", [1, 2**25], ids=["row by row", "whole"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", NETS)
def test_maps_without_a_graph_equal_those_of_autograd(
    name: str, rows: list[int], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "PART", {True: part, False: part})
    model, images = built(name)
    image, target = torch.tensor(rows, dtype=torch.long), torch.arange(len(rows)) % CLASSES
    for depth in DEPTHS:
        request = Request("ixg", depth, image, one_hot(target, CLASSES).double())
        maps, out = explain(model, images, request)
        assert not out.logits.requires_grad
        assert not maps.requires_grad
        with evaluation_mode(model):
            plain = model.explainable(images, depth)
        torch.testing.assert_close(out.logits, plain.logits.detach(), rtol=1e-12, atol=1e-12)
        request = Request(
            "ixg", depth, image, request.seed, create_graph=True, out=plain._replace(pullbacks={})
        )  # with a graph: the reference is the gradient in linearized mode, of the second order or not
        with evaluation_mode(model):
            expected = attribute(model, request).detach()
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("kept", "most"), [(True, 4), (False, 1)])
def test_more_rows_at_once_where_freed_memory_is_kept(kept: bool, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "keeps_freed_memory", lambda: kept)
    state, given = torch.empty(1, dtype=torch.uint8).expand(2, 2**25), []

    def step(grad: Tensor, rows: Rows = None) -> Tensor:
        given.append(len(grad))
        return grad

    with torch.no_grad():
        stages.above({"input": state}, torch.zeros(2, 1), [step])["input"](torch.zeros(8, 1), None)
    assert given == [most] * (8 // most)


@pytest.mark.parametrize("name", ["bcos_resnet", "xdnn", "relu_resnet"])
def test_nothing_of_a_batch_is_alive_after_it(name: str) -> None:
    model, images = built(name)
    request = Request("ixg", "input", torch.tensor([0, 0, 1]), one_hot(torch.tensor([1, 2, 3]), CLASSES).double())
    maps, out = explain(model, images, request)
    states = [weakref.ref(out.features[depth]) for depth in DEPTHS]
    pullbacks = [weakref.ref(pullback) for pullback in out.pullbacks.values()]
    del out
    assert maps.shape == (3, *images.shape[2:])
    assert [ref() for ref in states + pullbacks] == [None] * 10  # without a collection of cycles


def test_a_method_that_asks_autograd_gets_a_graph() -> None:
    model, images = built("bcos_resnet")
    seed = one_hot(torch.tensor([1]), CLASSES).double()
    assert explain(model, images, Request("gradcam", "final", torch.tensor([2]), seed)).out.logits.requires_grad
    assert not explain(model, images, Request("bcos", "final", torch.tensor([2]), seed)).out.logits.requires_grad


def counted(calls: list[tuple[int, int, Rows]], stage: int) -> Pullback:
    def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
        calls.append((stage, len(grad), rows.tolist() if isinstance(rows, Tensor) else rows))
        return grad + 10.0**stage

    return pullback


def test_a_part_goes_all_the_way_down_before_the_next() -> None:
    calls: list[tuple[int, int, Rows]] = []
    pullback = stages.compose_in_parts([counted(calls, i) for i in range(3)], [2, 4, 9])
    grad = torch.arange(6.0)[:, None]
    rows = torch.tensor([0, 1, 2, 3, 1, 3])
    torch.testing.assert_close(pullback(grad, rows), grad + 111)
    assert calls == [
        (2, 6, [0, 1, 2, 3, 1, 3]),
        (1, 3, slice(0, 3)), (0, 2, slice(0, 2)), (0, 1, slice(2, 3)),
        (1, 3, [3, 1, 3]), (0, 2, [3, 1]), (0, 1, slice(3, 4)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, [slice(0, 2), slice(2, 3)]),
        (slice(4, 7), [slice(4, 6), slice(6, 7)]),
        (torch.tensor([1, 0, 5]), [torch.tensor([1, 0]), slice(5, 6)]),
    ],
)
def test_rows_that_lie_one_behind_the_other_become_a_slice(rows: Rows, expected: list[Rows]) -> None:
    found = stages.divided(rows, [2, 1])
    assert [x.tolist() if isinstance(x, Tensor) else x for x in found] == [
        x.tolist() if isinstance(x, Tensor) else x for x in expected
    ]
