"""A net whose activations are checkpointed trains as the plain one does, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from guidance.models import build_model
from guidance.models.classifier import Classifier
from guidance.models.layers.noise import sample_keys
from guidance.models.pullback.checkpointing import segments
from guidance.types import Forward
from tests.support.explaining import attribute
from tests.support.nets import tiny, tiny_aim
from tests.support.small_nets import NETS, build

ROWS = {"none": [], "one": [2], "some, one twice": [2, 0, 2], "all": [0, 1, 2]}


def trained(model: Classifier, forward: Callable[[], Forward], depth: str, rows: list[int]) -> dict[str, Any]:
    """The loss of a guided step of three images, the gradients of its parameters, and the buffers after it."""
    out = forward()
    image = torch.tensor(rows, dtype=torch.long)
    maps = attribute("ixg", model, out, depth, image, image % 2 + 1, create_graph=True)
    stages = [x.sigmoid().sum() for x in out.stage_logits.values()]
    loss = (maps.relu().square().sum((1, 2)) + maps.sum((1, 2))).sum() + out.logits.sigmoid().sum() + sum(stages)
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "gradients": gradients, "buffers": dict(model.named_buffers())}


def in_bf16(model: Classifier, images: Tensor) -> Forward:
    with torch.autocast("cpu", torch.bfloat16):
        out: Forward = model(images)
    return out


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert torch.equal(found["loss"], expected["loss"])
    assert found["gradients"].keys() == expected["gradients"].keys()
    scale = max(float(gradient.abs().max()) for gradient in expected["gradients"].values())
    for name, gradient in expected["gradients"].items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-12 * scale, msg=name)
    for name, buffer in expected["buffers"].items():
        assert torch.equal(found["buffers"][name], buffer), name


@pytest.mark.parametrize(("depth", "rows"), [
    ("input", "none"), ("input", "some, one twice"), ("mid2", "some, one twice"),
    *(pytest.param("input", rows, marks=pytest.mark.long) for rows in ("one", "all")),
])  # fmt: skip
@pytest.mark.parametrize("name", NETS)
def test_a_guided_step_of_a_net_with_pullbacks_is_the_same(name: str, depth: str, rows: str) -> None:
    """With statistics of the batch where the net takes them."""
    results = []
    for checkpoint in (True, False):
        model, images = build(name)
        model.train().checkpoint_activations = checkpoint
        results.append(trained(model, partial(model, images.requires_grad_()), depth, ROWS[rows]))
        assert results[-1]["gradients"].keys() == dict(model.named_parameters()).keys()
    compare(*results)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("depth", ["input", "mid2", "final"])
def test_a_guided_step_by_double_backward_is_the_same(depth: str, rows: str) -> None:
    """With statistics of the batch, and with drop-out from torch's generator, which is drawn once."""
    results = []
    for checkpoint in (True, False):
        torch.manual_seed(0)
        model = tiny(norm=nn.BatchNorm2d, dropout=0.5).train()
        model.checkpoint_activations = checkpoint
        images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
        results.append(trained(model, partial(model, images.requires_grad_()), depth, ROWS[rows]))
        assert float(results[-1]["buffers"]["net.stage1.1.num_batches_tracked"]) == 1
        results[-1]["next draw"] = torch.rand(())
    compare(*results)
    assert results[0]["next draw"] == results[1]["next draw"]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    "settings", [{}, {"masking": "bottom_up"}, {"masking": "bottom_up", "classifier_dropout": 0.5}], ids=str
)
def test_a_guided_step_of_aim_is_the_same(settings: dict[str, Any], rows: str) -> None:
    """Masks and drop-out are drawn by sample, as they were in the forward pass."""
    results = []
    for checkpoint in (True, False):
        model = tiny_aim(**settings).train()
        model.checkpoint_activations = checkpoint
        torch.manual_seed(0)
        images = torch.rand(3, 3, 6, 6, dtype=torch.float64).requires_grad_()
        keys = sample_keys(0, 0, torch.arange(3))
        results.append(trained(model, partial(model, images, keys), "input", ROWS[rows]))
    compare(*results)


@pytest.mark.parametrize("name", ["bcos_resnet", "xdnn", "relu_resnet"])
def test_what_is_computed_again_is_in_the_precision_of_the_forward(name: str) -> None:
    """The pullback is called outside autocast, and the backward pass too."""
    results = []
    for checkpoint in (True, False):
        model, images = build(name)
        model.float().train().checkpoint_activations = checkpoint

        inputs = images.float().requires_grad_()
        results.append(trained(model, partial(in_bf16, model, inputs), "input", [2, 0]))
    assert torch.equal(results[0]["loss"], results[1]["loss"])
    for gradient, expected in zip(*(r["gradients"].values() for r in results), strict=True):
        assert (
            float((gradient - expected).norm() / expected.norm()) < 0.05
        )  # a third of what bf16 is off in the B-cos net


@pytest.mark.parametrize("guided", [pytest.param(False, marks=pytest.mark.long), True])
@pytest.mark.parametrize("name", ["bcos_resnet18", "xdnn_resnet18", "resnet18"])
def test_less_memory_is_held_between_forward_and_backward(name: str, guided: bool) -> None:
    held = []
    for checkpoint in (True, False):
        model = build_model(name, num_classes=2, batchnorm="frozen").train()
        model.checkpoint_activations = checkpoint
        images = torch.rand(2, 6 if name.startswith("bcos") else 3, 64, 64).requires_grad_()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            out = model(images)
            rows = torch.arange(2)
            maps = attribute("ixg", model, out, "input", rows, rows, create_graph=True) if guided else None
        held.append(sum(event.self_cpu_memory_usage for event in found.key_averages()))
        del out, maps
    assert 0 < held[0] < 0.55 * held[1]


def test_evaluation_keeps_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed again where the net is not in training."""
    model, images = build("xdnn")
    model.eval().checkpoint_activations = True
    monkeypatch.setattr("guidance.models.classifier.checkpointed", None)
    assert model.explainable(images, "input").logits.requires_grad


def test_residual_blocks_are_segments_and_so_is_what_lies_between_sequences() -> None:
    stem, relu, head = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Linear(1, 1)
    first, second = nn.ReLU(), nn.Sequential(nn.ReLU())
    assert segments([stem, relu, nn.Sequential(first, second), head]) == [[stem, relu], [first], [second], [head]]
    assert segments([]) == []
