"""Gradients of localisation losses, first and second, map by map; and their precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from guidance.losses import LOCALIZATION_LOSSES, l1
from guidance.maps import full_precision
from tests.support.maps import value_and_gradient

loss_names = pytest.mark.parametrize("name", LOCALIZATION_LOSSES)


@loss_names
def test_gradients_pass_gradcheck_once_and_twice(name: str) -> None:
    attribution = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 5, 5) > 0.5
    loss = partial(LOCALIZATION_LOSSES[name].function, mask=mask)
    assert torch.autograd.gradcheck(loss, (attribution,))
    assert torch.autograd.gradgradcheck(loss, (attribution,))


def test_the_gradient_flows_through_the_division_by_the_largest_magnitude() -> None:
    attribution = torch.tensor([[[2.0, 1.0]]], requires_grad=True)
    # L1 over [1, a/b] with only the peak in the mask is a / (2 b): its gradient in b is -a / (2 b^2).
    (gradient,) = torch.autograd.grad(l1(attribution, torch.tensor([[[True, False]]])).sum(), attribution)
    torch.testing.assert_close(gradient, torch.tensor([[[-0.125, 0.25]]]))


@loss_names
def test_maps_do_not_influence_one_another(name: str) -> None:
    attribution, mask = torch.randn(5, 3, 3), torch.rand(5, 6, 6) > 0.5
    attribution[2] = 0
    mask[3] = False
    together, gradient = value_and_gradient(name, attribution, mask)
    for m in range(5):
        alone, gradient_alone = value_and_gradient(name, attribution[m : m + 1], mask[m : m + 1])
        torch.testing.assert_close(together[m : m + 1], alone)
        torch.testing.assert_close(gradient[m : m + 1], gradient_alone)


@loss_names
@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_values_have_full_precision(name: str, given: torch.dtype, expected: torch.dtype) -> None:
    attribution, mask = torch.randn(2, 3, 3).to(given), torch.rand(2, 6, 6) > 0.5
    value = LOCALIZATION_LOSSES[name].function(attribution, mask)
    assert value.dtype == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LOCALIZATION_LOSSES[name].function(attribution, mask)
    torch.testing.assert_close(inside, value, rtol=0, atol=0)
    torch.testing.assert_close(
        value, LOCALIZATION_LOSSES[name].function(attribution.to(expected), mask), rtol=0, atol=0
    )


def test_autocast_is_off_in_a_block_of_full_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(torch.eye(2, dtype=torch.bfloat16)) as x:
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
