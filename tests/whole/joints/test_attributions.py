"""A method of attribution and a wrapper of methods are added by a row, without touching the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from guidance.attribution import ATTRIBUTIONS, Explainable, Method, Request, explain, one_hot, run
from guidance.attribution.gradient import gradients
from guidance.config import Config, parse_config
from guidance.models import BACKBONES
from tests.whole.joints.conftest import Go


def power_gradient(model: Explainable, request: Request, *, power: float = 1.0) -> Tensor:
    """The magnitude of the gradient, to a power, summed over channels."""
    gradient = model.cells(gradients(model, request), request.depth)
    return (gradient.abs() + 1e-12).pow(power).sum(1)


SENSITIVITY = Method(power_gradient, "Sensitivity", options={"power": 1.0})


def test_a_method_with_an_option(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "sensitivity", SENSITIVITY)
    objective = {"classification": "cross_entropy", "localization": {"weight": 0.1}}
    attribution = {"method": "sensitivity", "depth": "mid1", "options": {"power": 0.5}}
    found, lines = go(objective=objective | {"attribution": attribution})
    assert found.description.startswith("sensitivity (power 0.5) at mid1, ")
    assert found.settings["config"]["objective.attribution.options.power"] == 0.5
    assert 0 < found.metrics["epg"] < 1
    assert all(0 < line["train/localization"] < 1 for line in lines if "epoch" in line)


def test_its_options_and_traits_are_checked(settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "sensitivity", SENSITIVITY)
    with pytest.raises(ValueError, match=r"has no option 'powr'; it takes power\. Did you mean 'power'\?"):
        settings(evaluation={"attribution": {"method": "sensitivity", "options": {"powr": 2.0}}})
    monkeypatch.setitem(ATTRIBUTIONS, "sensitivity", replace(SENSITIVITY, needs=("dynamic",)))
    with pytest.raises(ValueError, match=r"tiny cannot give 'sensitivity', which needs a dynamic-linear net"):
        settings(evaluation={"attribution": {"method": "sensitivity"}})
    assert not SENSITIVITY.refuses(BACKBONES["bcos_resnet18"].traits)
    monkeypatch.setitem(ATTRIBUTIONS, "sensitivity", replace(SENSITIVITY, trainable=False))
    objective = {"classification": "cross_entropy", "attribution": {"method": "sensitivity"}}
    with pytest.raises(ValueError, match="maps of sensitivity cannot be trained through"):
        settings(objective=objective | {"localization": {"weight": 0.1}})
    settings(objective=objective | {"localization": {"weight": 0.0}})  # to look at only


def competing(base: Method, number: int) -> Method:
    """A wrapper: the share of each class in what the `number` likeliest classes explain, times its own map."""

    def function(model: Explainable, request: Request) -> Tensor:
        logits = request.out.logits.index_select(0, request.rows)
        others = logits.argsort(1, descending=True)[:, :number] if request.classes is None else request.classes
        target = request.seed.argmax(1, keepdim=True)
        classes = torch.cat((target, others), dim=1)  # [M, C]
        count = classes.shape[1]
        every = replace(
            request, rows=request.rows.repeat_interleave(count), classes=None,
            seed=one_hot(classes.flatten(), logits.shape[1]), rounds=(request.rounds or 0) * count,
        )  # fmt: skip
        maps = run(base, model, every).unflatten(0, (-1, count))  # [M, C, h, w]
        return functional.softmax(maps, dim=1)[:, 0] * maps[:, 0]

    return base.wrapped(function, f"{base.title} in competition")


def test_a_wrapper_of_a_method(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "competing_ixg", competing(ATTRIBUTIONS["ixg"], 2))
    objective = {"classification": "cross_entropy", "localization": {"weight": 0.1}}
    found, lines = go(
        objective=objective | {"attribution": {"method": "competing_ixg", "depth": "mid1"}},
        data={"classes_per_image": "all"},
    )
    assert found.description.startswith("competing_ixg at mid1, ")
    assert 0 < found.metrics["epg"] < 1
    assert all(0 < line["train/localization"] < 1 for line in lines if "epoch" in line)


def test_a_wrapper_sees_the_classes_that_are_asked_for() -> None:
    torch.manual_seed(0)
    model = BACKBONES["resnet18"].build(4).eval()
    images, rows = torch.rand(2, 3, 64, 64), torch.tensor([0, 1, 1])
    target, classes = torch.tensor([2, 0, 3]), torch.tensor([[0, 1], [1, 3], [0, 2]])
    base = ATTRIBUTIONS["gradcam"]
    request = Request(competing(base, 2), "mid3", rows, one_hot(target, 4), classes=classes)
    maps, out = explain(model, images, request)
    assert maps.shape == (3, 4, 4)
    for m in range(3):
        chosen = torch.cat((target[m : m + 1], classes[m]))
        alone = explain(model, images, Request(base, "mid3", rows[m].expand(3), one_hot(chosen, 4))).maps
        torch.testing.assert_close(maps[m], alone.softmax(0)[0] * alone[0])
    torch.testing.assert_close(out.logits, model(images).logits)


def test_a_seed_explains_a_difference_of_logits() -> None:
    """What the seed weights is explained: maps are linear in it."""
    torch.manual_seed(0)
    model = BACKBONES["resnet18"].build(4).eval()
    images, rows = torch.rand(1, 3, 64, 64), torch.zeros(1, dtype=torch.long)
    first, second = (
        explain(model, images, Request("ixg", "mid3", rows, one_hot(torch.tensor([k]), 4))).maps for k in (1, 3)
    )
    both = explain(model, images, Request("ixg", "mid3", rows, torch.tensor([[0.0, 1.0, 0.0, -2.0]]))).maps
    torch.testing.assert_close(both, first - 2 * second)


def test_a_config_without_the_row_names_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"unknown objective.attribution.method 'sensitivity'; known: "):
        parse_config({"data": {"name": "demo"}, "objective": {"attribution": {"method": "sensitivity"}}})
