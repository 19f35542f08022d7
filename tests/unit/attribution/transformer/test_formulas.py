"""Each method against its slow version from the formulas, several (image, class) pairs at once."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor

from guidance.attribution import ATTRIBUTIONS
from guidance.models.classifier import Classifier
from guidance.models.vit.attention import attention_form
from guidance.types import Forward
from tests.reference import attention as reference
from tests.reference.attention_relevance import t_lrp
from tests.support.explaining import attribute, pairs
from tests.support.small_nets import vit_tiny

FIRST = {"input": 0, "mid1": 2, "mid2": 3, "mid3": 4, "final": 5}  # the lowest block that takes part
ALONE = {
    "rollout": reference.rollout, "grad_rollout": reference.grad_rollout, "attention_gradcam": reference.attention_gradcam,
    "inflow": reference.inflow, "t_lrp": t_lrp,
}  # fmt: skip
WHICH = [(0, 0), (1, 2), (1, 3)]


@cache
def scene(depth: str) -> tuple[Classifier, Forward, reference.Slow]:
    torch.manual_seed(1)
    model, images = vit_tiny(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    out = model.explainable(images, depth)
    return model, out, reference.Slow(model.net.state_dict(), 2, FIRST[depth])


def tokens_of(model: Classifier, state: Tensor, depth: str) -> tuple[Tensor, Tensor | None]:
    """What enters the first block above a depth [T, D], for the state of one image [1, ...]; and, at final, it normalised."""
    if depth == "input":
        return model.net.tokens(state)[0].detach(), None
    if depth == "final":
        normalized, tokens = state[0].detach().chunk(2, -1)
        return tokens, normalized
    return state[0].detach(), None


def close(maps: Tensor, expected: list[reference.Row]) -> None:
    grids = torch.tensor(expected, dtype=torch.float64)[:, 1:].view(-1, 2, 2)
    assert grids.abs().sum() > 1e-4  # single ones may be zero, where a positive part is
    torch.testing.assert_close(maps, grids, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("depth", ["input", "mid3", "final"])
@pytest.mark.parametrize("method", ALONE)
def test_equals_the_slow_version(method: str, depth: str) -> None:
    model, out, slow = scene(depth)
    maps = attribute(method, model, out, depth, *pairs(*WHICH), create_graph=False)
    assert not maps.requires_grad
    some = WHICH[:1] if depth == "input" else WHICH  # six blocks take their time
    states = [tokens_of(model, out.features[depth][row : row + 1], depth)[0] for row, _ in some]
    expected = [ALONE[method](slow, tokens, target) for tokens, (_, target) in zip(states, some, strict=True)]
    close(maps[: len(some)], expected)


@pytest.mark.parametrize(("method", "depth", "start"), [
    ("t_attn", "input", 0), ("t_attn", "input", 2), ("t_attn", "final", 0), ("bi_attn", "input", 3), ("bi_attn", "mid2", 4),
    ("bi_attn", "mid3", 0),
])  # fmt: skip
def test_methods_on_a_path_equal_the_slow_version(method: str, depth: str, start: int) -> None:
    model, out, slow = scene(depth)
    chosen = ATTRIBUTIONS[method].bind({"start": start, "steps": 3})
    maps = attribute(chosen, model, out, depth, *pairs(*WHICH), create_graph=False)
    slow_version = {"t_attn": reference.t_attn, "bi_attn": reference.bi_attn}[method]
    expected = []
    for row, target in WHICH[:2]:
        path = partial(scaled, model, out.features[depth][row : row + 1], depth)
        expected.append(slow_version(slow, path(1.0)[0], target, path, start=start, steps=3))
    close(maps[:2], expected)


def scaled(model: Classifier, state: Tensor, depth: str, scale: float) -> tuple[Tensor, Tensor | None]:
    return tokens_of(model, state * scale, depth)


@pytest.mark.parametrize("depth", ["input", "mid1", "final"])
def test_the_gradient_through_values_is_that_with_the_attention_replaced_by_itself(depth: str) -> None:
    """The plain gradient of a run in which the attention weights are put in from outside."""
    model, out, _ = scene(depth)
    maps = attribute("value_gradient", model, out, depth, *pairs((1, 2)), create_graph=False)
    state = out.features[depth][1:].detach()
    with attention_form(model, "explicit"), torch.enable_grad():
        seen = model.upper(state.requires_grad_(), depth).inside
    fixed = {name: value.detach() for name, value in seen.items() if name.endswith("weights")}
    hooks = [model.watched[name].register_forward_hook(lambda *_, value=value: value) for name, value in fixed.items()]
    try:
        with attention_form(model, "explicit"), torch.enable_grad():
            (gradient,) = torch.autograd.grad(model.upper(state, depth).logits[0, 2], state)
    finally:
        for hook in hooks:
            hook.remove()
    expected = model.cells(gradient, depth).sum(1)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-8)
    assert maps.abs().max() > 1e-3 or depth == "mid1"  # there the sum over channels is zero
