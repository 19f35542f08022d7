"""Methods through the lens: what they explain, from one forward pass, and training through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from guidance.attribution import ATTRIBUTIONS, Method, Request, attribute, explain, one_hot, with_lens
from guidance.losses import energy
from guidance.models.classifier import Classifier
from tests.reference import attributions as reference
from tests.support import objectives as make
from tests.support import small_nets
from tests.support.explaining import images, pairs
from tests.support.nets import tiny, tiny_aim

WHICH = [(0, 2), (1, 0), (1, 3), (2, 3)]  # (row, class)


def request_of(method: str | Method, depth: str, model: Any, **settings: Any) -> Request:
    rows, target = pairs(*WHICH)
    return Request(method, depth, rows, one_hot(target, 4), **settings)


def by_hand(model: Classifier, x: Tensor, method: str, depth: str, sets: Sequence[set[int]]) -> Tensor:
    """One class at a time, refined in the slow loop over the classes of each map's set."""
    result = []
    for (row, target), classes in zip(WHICH, sets, strict=True):
        order = [target, *sorted(classes - {target})]
        alone = [
            explain(model, x, Request(method, depth, torch.tensor([row]), one_hot(torch.tensor([k]), 4))).maps[0]
            for k in order
        ]
        result.append(reference.lens([a.tolist() for a in alone])[0] if len(order) > 1 else alone[0].tolist())
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("method", ["ixg", "gradcam", "guided_backprop", "intgrad"])
@pytest.mark.parametrize("depth", ["input", "mid2", "final"])
def test_it_refines_the_maps_of_the_method_over_each_set(method: str, depth: str) -> None:
    torch.manual_seed(0)
    model, x = tiny(num_classes=4).eval(), images().detach()
    logits = model(x).logits
    named = torch.tensor([[0, 1], [0, 0], [1, 3], [2, 0]])
    sets: dict[Any, list[set[int]]] = {
        "top2": [{*logits[row].topk(2).indices.tolist()} for row, _ in WHICH],
        "best_worst": [{int(logits[row].argmax()), int(logits[row].argmin())} for row, _ in WHICH],
        (3, 1): [{3, 1}] * 4,
        "ground_truth": [set(classes) for classes in named.tolist()],
    }
    assert any(target not in chosen for chosen, (_, target) in zip(sets["top2"], WHICH, strict=True))
    for classes, expected in sets.items():
        request = request_of(with_lens(ATTRIBUTIONS[method], classes=classes), depth, model)
        request = replace(request, classes=named) if classes == "ground_truth" else request
        wanted = by_hand(model, x, method, depth, expected)
        found, out = explain(model, x, request)
        torch.testing.assert_close(found, wanted)
        assert not found.requires_grad
        torch.testing.assert_close(out.logits, logits)
        # The same maps where they can be trained through.
        out = model(x.requires_grad_())
        torch.testing.assert_close(attribute(model, replace(request, out=out, create_graph=True)), wanted)
        x = x.detach()


def test_the_classes_of_a_request_are_taken_before_those_of_the_lens() -> None:
    model, x = tiny(num_classes=4).eval(), images().detach()
    named = torch.tensor([[1], [1], [0], [2]])
    found = explain(model, x, replace(request_of(with_lens(ATTRIBUTIONS["ixg"]), "mid1", model), classes=named)).maps
    torch.testing.assert_close(found, by_hand(model, x, "ixg", "mid1", [{1}, {1}, {0}, {2}]))


def test_all_maps_come_from_one_forward_pass_and_each_class_of_an_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = tiny(num_classes=4).eval(), images().detach()
    forwards, backwards = [], []
    upper, grad = model.upper, torch.autograd.grad
    monkeypatch.setattr(model, "upper", lambda *a: forwards.append(a) or upper(*a))
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: backwards.append(a) or grad(*a, **k))
    rows, target = pairs((0, 0), (0, 1), (0, 2), (1, 1))
    lens = with_lens(ATTRIBUTIONS["ixg"], classes=[0, 1, 2])
    explain(model, x, Request(lens, "mid1", rows, one_hot(target, 4)))
    assert (len(forwards), len(backwards)) == (1, 3)  # not 3 maps of 3 classes
    found = explain(model, x, Request(lens, "mid1", rows[:0], one_hot(target[:0], 4))).maps
    assert found.shape == (0, 5, 5)


@pytest.mark.parametrize("method", ["ixg", "gradcam"])
@pytest.mark.parametrize("depth", ["input", "final"])
def test_gradcheck_of_the_parameters_of_a_plain_net(method: str, depth: str) -> None:
    model = tiny(num_classes=4)
    nn.init.uniform_(model.net.fc.weight, -0.3, 1)
    check(model, images().detach(), method, depth, fast=depth == "input")


@pytest.mark.parametrize("name", ["bcos_resnet", "bcos_simple_vit"])
def test_gradcheck_of_the_parameters_of_bcos_nets(name: str) -> None:
    model, x = small_nets.build(name, batch=3)
    check(model.eval(), x, "bcos", "input", fast=True)


def check(model: Classifier, x: Tensor, method: str, depth: str, *, fast: bool = False) -> None:
    lens = with_lens(ATTRIBUTIONS[method], classes="top2", normalize=True)
    mask = torch.rand(4, 8, 8) > 0.5

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            request = request_of(lens, depth, model, create_graph=True, rounds=2, out=model(x.requires_grad_()))
            return energy(attribute(model, request), mask).sum()

    step = Step()
    names, values = zip(*((n, p) for n, p in step.named_parameters() if p.requires_grad), strict=True)
    start = step()
    assert start > 0
    assert any(g is not None and g.any() for g in torch.autograd.grad(start, values, allow_unused=True))
    inputs = tuple(v.detach().clone().requires_grad_() for v in values)
    assert torch.autograd.gradcheck(
        lambda *p: functional_call(step, dict(zip(names, p, strict=True)), ()), inputs, fast_mode=fast, atol=1e-6
    )


@pytest.mark.parametrize("classes", ["top2", "top1_lowest", [0, 2], "ground_truth"], ids=str)
def test_a_training_step_never_waits_for_the_device(classes: Any) -> None:
    """Fake tensors have no values: reading one on the host, or a shape that depends on one, raises."""
    with FakeTensorMode():
        model = tiny(num_classes=4)
        named = torch.tensor([[0, 1]] * 4) if classes == "ground_truth" else None
        lens = with_lens(ATTRIBUTIONS["gradcam"], classes=classes)
        request = request_of(lens, "mid1", model, classes=named, create_graph=True, rounds=2, out=model(images()))
        energy(attribute(model, request), torch.rand(4, 8, 8) > 0.5).sum().backward()


def test_its_traits_are_those_of_the_method() -> None:
    for name, method in ATTRIBUTIONS.items():
        lens = with_lens(method)
        assert (lens.linearizes, lens.one_gradient, lens.needs) == (
            method.linearizes,
            method.one_gradient,
            method.needs,
        )
        assert lens.title == f"{method.title} + lens", name
    model = tiny(num_classes=4)
    fixed = with_lens(replace(ATTRIBUTIONS["ixg"], trainable=False))
    with pytest.raises(ValueError, match=r"maps of IxG \+ lens cannot be trained through"):
        attribute(model, request_of(fixed, "mid1", model, create_graph=True, out=model(images())))
    steps = with_lens(ATTRIBUTIONS["intgrad"].bind({"steps": 2}), classes=[0, 1])
    x = images().detach()
    alone = explain(model.eval(), x, request_of(ATTRIBUTIONS["intgrad"].bind({"steps": 2}), "mid1", model)).maps
    found = explain(model, x, request_of(steps, "mid1", model)).maps
    assert ((found == 0) | (found.sign() == alone.sign())).all()
    assert (found.abs() <= alone.abs()).all()


def test_mistakes_are_named() -> None:
    model, x = tiny(num_classes=4), images().detach()
    with pytest.raises(ValueError, match=r"names the class 4, but the net has the classes 0 to 3"):
        explain(model, x, request_of(with_lens(ATTRIBUTIONS["ixg"], classes=[1, 4]), "mid1", model))
    with pytest.raises(ValueError, match=r"'ground_truth' needs to know the classes of each image"):
        explain(model, x, request_of(with_lens(ATTRIBUTIONS["ixg"], classes="ground_truth"), "mid1", model))
    request = request_of(with_lens(ATTRIBUTIONS["ixg"]), "mid1", model)
    with pytest.raises(ValueError, match="every seed must be one_hot of a class, not a sum of logits"):
        explain(model, x, replace(request, seed=request.seed + 0.5))
    with pytest.raises(ValueError, match="classes names none"):
        with_lens(ATTRIBUTIONS["ixg"], classes=[])


@pytest.mark.parametrize("classes", ["top2", "ground_truth"])
def test_an_objective_through_the_lens_is_the_same_in_one_batch_and_in_chunks(classes: str) -> None:
    """Images with one and with two classes, and a chunk whose images have fewer classes than the other's."""
    model = tiny(channels=3).eval()
    batch = make.batch_of(regions=[(0, 0), (0, 1), (2, 2), (3, 0)])
    targets = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.float64)
    batch = batch._replace(targets=targets)
    objective = make.guided(model, localization=energy, weight=1.0, depth="mid1",
                            attribution=with_lens(ATTRIBUTIONS["ixg"], classes=classes))  # fmt: skip
    counts = objective.counts(batch)
    assert counts.classes == 2
    whole = objective(batch, counts).terms["localization"]
    parts = [objective(part, counts).terms["localization"] for part in batch.chunk(2)]
    torch.testing.assert_close(sum(parts), whole)
    plain = make.guided(model, localization=energy, weight=1.0, depth="mid1")
    assert abs(plain(batch, counts).terms["localization"] - whole) > 1e-3


def test_a_net_that_masks_itself_is_explained_and_trained_through_the_lens() -> None:
    model = tiny_aim()
    batch = make.batch_of()
    objective = make.tiny_masking(model, localization=energy, weight=1.0, attribution=with_lens(ATTRIBUTIONS["gradcam"]),
                                  depth=model.depths[-1])  # fmt: skip
    step = objective(batch, objective.counts(batch))
    assert step.terms["localization"].isfinite()
    step.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
