"""What the methods promise: rows that sum to 1, relevance that is conserved, and cases that are worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from guidance.attribution import Request, one_hot
from guidance.attribution.transformer.relevance import (
    divide,
    of_class_token,
    through_block,
    through_linear,
    through_product,
    through_sum,
)
from guidance.attribution.transformer.rollout import class_row, with_residual
from guidance.attribution.transformer.trace import Trace, trace
from guidance.attribution.transformer.transitions import head_importance
from tests.support.explaining import attribute, pairs
from tests.support.small_nets import vit_tiny


def traced(depth: str = "input", batch: int = 2) -> Trace:
    model = vit_tiny()
    out = model.explainable(torch.rand(batch, 3, 8, 8, dtype=torch.float64), depth)
    rows = torch.arange(batch)
    return trace(model, Request("rollout", depth, rows, one_hot(rows, 4), out=out, rounds=1))


def test_a_trace_is_the_forward_pass_of_the_net() -> None:
    """The same logits, whose blocks follow one another, at every depth."""
    for depth, below in (("input", 0), ("mid1", 2), ("mid3", 4), ("final", 5)):
        found = traced(depth)
        assert (found.below, len(found.blocks)) == (below, 6 - below)
        for block, above in zip(found.blocks, found.blocks[1:], strict=False):
            torch.testing.assert_close(block.inner.output, above.tokens)
        last = found.net.heads(found.net.encoder.ln(found.blocks[-1].inner.output)[:, 0])
        torch.testing.assert_close(last, found.logits)
        assert all(torch.allclose(block.weights.sum(-1), torch.ones(1, dtype=torch.float64)) for block in found.blocks)


def test_rows_of_a_rollout_sum_to_one() -> None:
    row = class_row([with_residual(block.weights.mean(1)) for block in traced().blocks])
    torch.testing.assert_close(row.sum(1), torch.ones(2, dtype=torch.float64))
    assert (row > 0).all()


def test_a_rollout_by_hand() -> None:
    """Two blocks on two tokens: (A + I) / 2 = [[3/4, 1/4], [0, 1]], squared."""
    a = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    assert torch.equal(with_residual(a), torch.tensor([[[0.75, 0.25], [0.0, 1.0]]]))
    assert torch.equal(class_row([with_residual(a)] * 2), torch.tensor([[0.5625, 0.4375]]))
    other = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])  # the last matrix comes first in the product
    assert torch.equal(class_row([a, other]), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(class_row([other, a]), torch.tensor([[0.5, 0.5]]))


def test_a_rollout_is_the_same_for_every_class_and_the_others_are_not() -> None:
    torch.manual_seed(1)
    model, x = vit_tiny(), torch.rand(1, 3, 8, 8, dtype=torch.float64).requires_grad_()
    for method in ("rollout", "grad_rollout", "t_attn", "bi_attn", "inflow", "t_lrp"):
        maps = attribute(method, model, model(x), "mid1", *pairs((0, 0), (0, 1)), create_graph=False)
        assert (maps >= 0).all()
        assert torch.equal(maps[0], maps[1]) == (method == "rollout"), method


def test_heads_are_weighted_by_hand() -> None:
    """A^T G of head 0 is all 1, of head 1 all -3."""
    ones, seed = torch.ones(2, 2), torch.tensor([[0.5, 1.5], [0.5, -0.5]])
    weights = torch.stack((torch.full((2, 2), 0.5), torch.full((2, 2), 0.5)))[None]
    gradient = torch.stack((ones, seed.sign() * 0 - 3))[None]
    assert torch.equal(head_importance(weights, gradient), torch.tensor([[0.25, 0.75]]))
    assert torch.equal(head_importance(weights, gradient * 0), torch.zeros(1, 2))


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def test_every_rule_conserves_relevance() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    relevance = torch.randn(2, 3, 4, dtype=torch.float64)
    close = {"rtol": 1e-6, "atol": 1e-6}
    weight = torch.randn(5, 4, dtype=torch.float64)
    out = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(total(through_linear(x, weight, out)), total(out), **close)
    torch.testing.assert_close(sum(map(total, through_sum(x, y, relevance))), total(relevance), **close)
    square = torch.randn(2, 3, 3, dtype=torch.float64)
    halves = [total(part) for part in through_product(x, y.transpose(1, 2), square)]
    torch.testing.assert_close(halves[0], halves[1], **close)
    torch.testing.assert_close(halves[0] + halves[1], total(square), **close)
    # Where no product is positive, nothing can be shared; no division by zero.
    assert not through_linear(x.abs(), -weight.abs(), out).any()
    assert torch.equal(divide(torch.tensor([1.0, 1.0]), torch.tensor([0.0, -2.0])), torch.tensor([0.0, -0.5]))


def test_a_linear_rule_by_hand() -> None:
    """x = (1, -2), w = (3, -1): products 3 and 2, of which 10 becomes 6 and 4; w = (3, 1): 3 alone is positive."""
    x, relevance = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[10.0]]])
    for weight, expected in (((3.0, -1.0), (6.0, 4.0)), ((3.0, 1.0), (10.0, 0.0))):
        torch.testing.assert_close(through_linear(x, torch.tensor([weight]), relevance), torch.tensor([[expected]]))


@pytest.mark.parametrize("depth", ["input", "mid2"])
def test_relevance_is_conserved_from_the_logit_to_the_tokens(depth: str) -> None:
    """A seed of 1 at the logit is 1 at the tokens of every block; half of what enters a product is the attention's."""
    found = traced(depth)
    seed = one_hot(torch.tensor([3, 1]), 4).double() * torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    current = of_class_token(found.net.encoder.ln(found.blocks[-1].inner.output), found.net.heads.head, seed)
    for block in reversed(found.blocks):
        current, own = through_block(block, current)
        torch.testing.assert_close(total(current), seed.sum(1), rtol=1e-5, atol=1e-5)
        assert own.shape == block.weights.shape
        assert (total(own).abs() > 1e-6).all()
