"""Perturbation methods against slow loops, by what they promise, and what they leave alone."""

from __future__ import annotations

import sys
from itertools import combinations
from math import exp, factorial, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS, Request, explain, method_of, one_hot
from guidance.attribution.perturbation import black_box
from guidance.attribution.perturbation.superpixels import superpixels
from guidance.models.classifier import Classifier
from tests.support.nets import global_average, tiny

pytest.importorskip("captum.attr")

SMALL = {"segments": 9, "compactness": 10.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "feature_ablation": SMALL,
    "occlusion": {"patch": 5, "stride": 3},
    "shapley": SMALL | {"samples": 3},
    "kernel_shap": SMALL | {"samples": 40},
    "lime": SMALL | {"samples": 60},
}
each = pytest.mark.parametrize("name", OPTIONS)


def net() -> Classifier:
    """Nonlinear, and sure enough of itself for LIME."""
    model = tiny(channels=3, activation="tanh").eval()
    nn.init.normal_(model.net.fc.weight, std=20.0)
    return model


def pictures(count: int = 1) -> Tensor:
    """Smooth enough for superpixels."""
    noise = torch.randn(count, 3, 4, 4, dtype=torch.float64)
    return nn.functional.interpolate(noise, (12, 12), mode="bilinear")


def maps(model: Classifier, name: str, x: Tensor, *pairs: tuple[int, int], **options: Any) -> Tensor:
    rows, classes = torch.tensor(pairs).reshape(-1, 2).unbind(1)
    method = method_of(name).bind(OPTIONS[name] | options)
    return explain(model, x, Request(method, "input", rows, one_hot(classes, 3))).maps


def answer(model: Classifier, x: Tensor, target: int) -> float:
    with torch.no_grad():
        return float(model(x).logits[0, target])


def with_only(x: Tensor, labels: Tensor, on: set[int]) -> Tensor:
    """The image with the mean colour where no superpixel of `on` is: zero, because images are normalised."""
    result = torch.zeros_like(x)
    for i, j in ((labels[:, :, None] == torch.tensor(sorted(on))).any(2)).nonzero().tolist():
        result[:, :, i, j] = x[:, :, i, j]
    return result


def of_superpixels(x: Tensor) -> tuple[Tensor, set[int]]:
    labels = superpixels(x[0], **SMALL)
    return labels, set(range(int(labels.max()) + 1))


def test_feature_ablation_switches_off_one_superpixel_at_a_time() -> None:
    model, x = net(), pictures()
    labels, every = of_superpixels(x)
    assert len(every) >= 4
    falls = [answer(model, x, 1) - answer(model, with_only(x, labels, every - {s}), 1) for s in sorted(every)]
    torch.testing.assert_close(maps(model, "feature_ablation", x, (0, 1))[0], torch.tensor(falls)[labels].double())


def test_occlusion_is_the_mean_over_the_squares_that_hide_a_pixel() -> None:
    """5 x 5 at every third place of 12 x 12: the last ones stick out."""
    model, x = net(), pictures()
    total, count = torch.zeros(12, 12).double(), torch.zeros(12, 12)
    for top in (0, 3, 6, 9):
        for left in (0, 3, 6, 9):
            hidden = x.clone()
            hidden[:, :, top : top + 5, left : left + 5] = 0.0
            total[top : top + 5, left : left + 5] += answer(model, x, 2) - answer(model, hidden, 2)
            count[top : top + 5, left : left + 5] += 1
    torch.testing.assert_close(maps(model, "occlusion", x, (0, 2))[0], total / count)
    with pytest.raises(
        ValueError, match="1 <= stride <= patch <= side of the images, but has stride 8, patch 15 and images of 12 x 12"
    ):
        maps(model, "occlusion", x, (0, 2), patch=15, stride=8)
    with pytest.raises(ValueError, match="stride 6, patch 5"):
        maps(model, "occlusion", x, (0, 2), stride=6)


def test_shapley_is_the_mean_effect_over_the_drawn_permutations_and_complete() -> None:
    model, x = net(), pictures()
    labels, every = of_superpixels(x)
    torch.manual_seed(7)
    values = [0.0] * len(every)
    for _ in range(3):
        on: set[int] = set()
        for s in torch.randperm(len(every)).tolist():
            values[s] += (
                answer(model, with_only(x, labels, on | {s}), 0) - answer(model, with_only(x, labels, on), 0)
            ) / 3
            on.add(s)
    found = maps(model, "shapley", x, (0, 0), seed=7)[0]
    torch.testing.assert_close(found, torch.tensor(values)[labels].double(), rtol=1e-4, atol=1e-4)
    whole = answer(model, x, 0) - answer(model, torch.zeros_like(x), 0)
    assert sum(float(found[labels == s][0]) for s in every) == pytest.approx(whole, abs=1e-4)


def exact_shapley(model: Classifier, x: Tensor, target: int) -> Tensor:
    labels, every = of_superpixels(x)
    n = len(every)
    subsets = [frozenset(chosen) for size in range(n + 1) for chosen in combinations(sorted(every), size)]
    worth = {on: answer(model, with_only(x, labels, set(on)), target) for on in subsets}
    values = [0.0] * n
    for on in subsets:
        for s in every - on:
            weight = factorial(len(on)) * factorial(n - len(on) - 1) / factorial(n)
            values[s] += weight * (worth[on | {s}] - worth[on])
    return torch.tensor(values)[labels].double()


def test_sampled_values_approach_the_exact_ones_from_both_sides() -> None:
    """Shapley's by permutations, and SHAP's regression."""
    model, x = net(), pictures()
    exact = exact_shapley(model, x, 0)
    scale = float(exact.abs().max())
    for name in ("shapley", "kernel_shap"):
        found = maps(model, name, x, (0, 0), samples=500, batch_size=500)[0]
        assert float((found - exact).abs().max()) < 0.05 * scale, name


@pytest.mark.parametrize("name", ["feature_ablation", "shapley", "kernel_shap"])
def test_of_a_linear_net_all_are_its_contributions(name: str) -> None:
    """Where superpixels do not act together, each has its own weights times its pixels."""
    linear = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)).double()
    model, x = Classifier(linear, {"final": ["0"], "logits": ["1", global_average]}).eval(), pictures()
    ixg = explain(model, x, Request("ixg", "input", torch.tensor([0]), one_hot(torch.tensor([2]), 3))).maps[0]
    labels, every = of_superpixels(x)
    expected = torch.stack([ixg[labels == s].sum() for s in sorted(every)])[labels]
    torch.testing.assert_close(maps(model, name, x, (0, 2))[0], expected, rtol=1e-3, atol=1e-4)


def test_lime_is_the_optimum_of_its_weighted_lasso() -> None:
    """By the conditions of Karush, Kuhn and Tucker, on the copies that the net was asked for."""
    model, x = net(), pictures()
    labels, every = of_superpixels(x)
    seen: list[Tensor] = []
    handle = model.net.stage1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    found = maps(model, "lime", x, (0, 1))[0]
    handle.remove()
    copies = torch.cat(seen)
    assert len(copies) == 60
    firsts = [(labels == s).nonzero()[0].tolist() for s in sorted(every)]
    on = torch.stack([(copies[:, :, i, j] == x[0, :, i, j]).all(1) for i, j in firsts], 1).double()
    y = torch.tensor([answer(model, copy[None], 1) for copy in copies]).double()
    distance = [1 - sqrt(k / len(every)) for k in on.sum(1).tolist()]  # 1 - cosine of an all-one vector
    weights = torch.tensor([exp(-(d**2) / 2) for d in distance]).double()
    weights = weights / weights.sum()
    coefficients = torch.stack([found[i, j] for i, j in firsts])
    rest = y - on @ coefficients
    rest = rest - (weights * rest).sum()
    slopes = (on * (weights * rest)[:, None]).sum(0)
    assert (coefficients != 0).any()
    for slope, coefficient in zip(slopes.tolist(), coefficients.tolist(), strict=True):
        if coefficient:
            assert slope == pytest.approx(0.01 * (1 if coefficient > 0 else -1), abs=2e-3)
        else:
            assert abs(slope) <= 0.01 + 2e-3


@each
def test_maps_do_not_depend_on_the_batch_nor_on_how_many_are_asked_for(name: str) -> None:
    model, x = net().train(), pictures(3)
    state = torch.get_rng_state()
    together = maps(model, name, x, (2, 1), (0, 0), (2, 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    alone = torch.cat([maps(model, name, x[i : i + 1], (0, k), batch_size=7) for i, k in ((2, 1), (0, 0), (2, 0))])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together[0], together[2])
    assert maps(model, name, x).shape == (0, 12, 12)
    if "seed" in ATTRIBUTIONS[name].options:
        assert not torch.equal(maps(model, name, x, (2, 1), seed=1)[0], together[0])


@each
def test_a_further_class_costs_no_forward_pass_and_progress_counts_all(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []

    class Noted(black_box.Progress):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            bars.append(self)

    monkeypatch.setattr(black_box, "Progress", Noted)
    model, x = net(), pictures(2)
    copies: list[int] = []
    handle = model.net.stage1.register_forward_pre_hook(lambda module, inputs: copies.append(len(inputs[0])))
    maps(model, name, x[:1], (0, 0))
    maps(model, name, x[1:], (0, 0))
    once = list(copies)
    assert max(once) <= 32
    copies.clear()
    maps(model, name, x, (0, 0), (0, 1), (0, 2), (1, 0))
    handle.remove()
    assert copies == once
    assert [bar.description.rpartition(", ")[2] for bar in bars] == ["image 1 of 1"] * 2 + [
        "image 1 of 2",
        "image 2 of 2",
    ]
    assert all(bar.done == bar.total for bar in bars)


def test_they_explain_the_input_alone_and_nothing_is_trained_through_them() -> None:
    model, x = net(), pictures()
    rows, seed = torch.tensor([0]), one_hot(torch.tensor([1]), 3)
    with pytest.raises(ValueError, match="Occlusion has no map at depth 'mid1': it explains depth input alone"):
        explain(model, x, Request("occlusion", "mid1", rows, seed))
    with pytest.raises(
        ValueError, match=r"of LIME cannot be trained through \(it compares what the net answers to changed im"
    ):
        explain(model, x, Request("lime", "input", rows, seed, create_graph=True))
    with pytest.raises(ValueError, match=r"maps of LRP cannot be trained through \(its rules replace the gradient"):
        explain(model, x, Request("lrp", "input", rows, seed, create_graph=True))


@each
def test_what_is_missing_is_named_before_anything_is_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remark = ATTRIBUTIONS[name].remark
    assert remark is not None
    assert remark(net()) == "what is switched off has the mean colour of ImageNet"
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ValueError, match=r"need captum and scikit-learn: pip install 'guidance\[attribution\]'"):
        remark(net())
