"""Localisation losses: exact values, slow references, degenerate cases, scale, precision."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from guidance.losses import LOCALIZATION_LOSSES, energy, energy_star, l1, ppce, rrr
from guidance.maps import full_precision, upsample
from tests.reference import formulas as reference

LN_FLOOR = -math.log(1e-6)
MAP = torch.tensor([[4.0, -2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0]])
BOX = torch.zeros(4, 4, dtype=torch.bool)
BOX[:2, :2] = True

loss_names = pytest.mark.parametrize("name", LOCALIZATION_LOSSES)


def box(top: int, bottom: int, left: int, right: int, size: int = 4) -> Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def value_and_gradient(name: str, attribution: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    attribution = attribution.clone().requires_grad_()
    value = LOCALIZATION_LOSSES[name](attribution, mask)
    (gradient,) = torch.autograd.grad(value.sum(), attribution)
    return value.detach(), gradient


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy", 1 - 6 / 8),
        ("l1", (0 + 1 + 0.5 + 1 + 0.5) / 16),
        ("ppce", (0 + LN_FLOOR + math.log(2) + LN_FLOOR) / 4),
        ("rrr", 0.5**2 + 0.25**2),
        ("energy_star", 1 - (6 / 8) / 4**0.5),
    ],
)
def test_exact_values_at_the_resolution_of_the_mask(name: str, expected: float) -> None:
    assert LOCALIZATION_LOSSES[name](MAP[None], BOX[None]).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # At 4 x 4 the signed map is the rows (1, 3/4, 1/4, 0) times the columns (1, 1/2, -1/2, -1).
        ("energy", 1 - (1.75 * 1.5) / (2 * 1.5)),
        ("rrr", (1 + 0.75**2) * (0.5**2 + 1) + 0.25**2 * 2 * (0.5**2 + 1)),
        ("energy_star", 1 - (1.75 * 1.5) / (2 * 1.5) / 2),
        # Where the positive part is taken first, the columns are (1, 3/4, 1/4, 0).
        ("l1", ((4 - 1.75**2) + (2**2 - 1.75**2)) / 16),
        ("ppce", -(math.log(1) + 2 * math.log(0.75) + math.log(0.75**2)) / 4),
    ],
)
def test_exact_values_after_upsampling(name: str, expected: float) -> None:
    attribution = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    assert LOCALIZATION_LOSSES[name](attribution, BOX[None]).item() == pytest.approx(expected, rel=1e-6)


@loss_names
@pytest.mark.parametrize(("shape", "size"), [((4, 4), (4, 4)), ((1, 1), (4, 5)), ((2, 3), (7, 9)), ((7, 7), (5, 6))])
def test_equals_the_slow_reference(name: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    attribution = torch.randn(6, *shape, dtype=torch.float64)
    mask = torch.rand(6, *size) > torch.linspace(0.1, 0.9, 6)[:, None, None]
    values = LOCALIZATION_LOSSES[name](attribution, mask)
    expected = [reference.LOSSES[name](a, m) for a, m in zip(attribution, mask, strict=True)]
    assert values.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("area", ["pixels", "fraction"])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_energy_star_options_equal_the_reference(area: str, alpha: float) -> None:
    attribution, mask = torch.randn(3, 2, 3, dtype=torch.float64), torch.rand(3, 6, 6) > 0.6
    values = energy_star(attribution, mask, alpha=alpha, area=area)
    expected = [reference.energy_star(a, m, alpha, area) for a, m in zip(attribution, mask, strict=True)]
    assert values.tolist() == pytest.approx(expected, rel=1e-12)
    if alpha == 0:
        torch.testing.assert_close(values, energy(attribution, mask))


def test_a_single_peak_of_a_coarse_map_stays_below_one_because_it_is_normalised_first() -> None:
    attribution = torch.zeros(1, 7, 7)
    attribution[0, 3, 3] = 5.0
    assert upsample(attribution / 5, (224, 224)).max().item() == pytest.approx((1 - 1 / 64) ** 2)
    peak = upsample(attribution, (224, 224)) == upsample(attribution, (224, 224)).max()
    assert ppce(attribution, peak).item() == pytest.approx(-2 * math.log(1 - 1 / 64), rel=1e-4)


def test_energy_is_zero_inside_and_one_outside() -> None:
    inside = torch.zeros(1, 4, 4)
    inside[0, :2, :2] = torch.rand(2, 2) + 0.1
    inside[0, 3, 3] = -5.0
    assert energy(inside, BOX[None]).item() == 0
    assert energy(inside, ~BOX[None]).item() == 1


@loss_names
def test_values_for_a_uniform_map(name: str) -> None:
    expected = {"energy": 0.75, "l1": 0.75, "ppce": 0.0, "rrr": 12.0, "energy_star": 1 - 0.25 / 2}[name]
    value = LOCALIZATION_LOSSES[name](torch.full((1, 2, 2), 0.3), BOX[None])
    assert value.item() == pytest.approx(expected, abs=1e-6)


MAPS = {
    "random": torch.tensor([[1.0, -2.0, 0.5], [3.0, -0.1, 0.2], [-1.0, 0.7, 0.3]]),
    "zero": torch.zeros(3, 3),
    "negative": -torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.1, 4.0], [1.0, 1.0, 1.0]]),
    "one negative peak": torch.tensor([[0.0, 0.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 0.0]]),
    "one positive peak": torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]),
    "constant": torch.full((3, 3), 0.2),
    "tiny": torch.tensor([[1.0, -2.0, 0.5], [3.0, -0.1, 0.2], [-1.0, 0.7, 0.3]]) * 1e-20,
    "smaller than the smallest normal float": torch.full((3, 3), 1e-42),
    "huge": torch.tensor([[1.0, -2.0, 0.5], [3.0, -0.1, 0.2], [-1.0, 0.7, 0.3]]) * 1e37,
    "positive only by rounding": torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 1e-12, -1.0], [-1.0, -1.0, -1.0]]),
}
MASKS = {
    "empty": box(0, 0, 0, 0),
    "zero width": box(0, 4, 2, 2),
    "last row": box(3, 4, 0, 4),
    "last column": box(0, 4, 3, 4),
    "last pixel": box(3, 4, 3, 4),
    "full": box(0, 4, 0, 4),
}


@loss_names
@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_cases_are_finite_and_equal_the_reference(
    name: str, map_name: str, mask_name: str, dtype: torch.dtype
) -> None:
    attribution, mask = MAPS[map_name].to(dtype), MASKS[mask_name]
    value, gradient = value_and_gradient(name, attribution[None], mask[None])
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    if map_name != "smaller than the smallest normal float":
        rel = 1e-5 if dtype == torch.float32 else 1e-12
        assert value.item() == pytest.approx(reference.LOSSES[name](attribution, mask), rel=rel, abs=rel)


@loss_names
@pytest.mark.parametrize("map_name", ["zero", "negative", "one negative peak", "positive only by rounding"])
def test_without_positive_energy_the_value_is_known_and_nothing_is_pulled(name: str, map_name: str) -> None:
    value, gradient = value_and_gradient(name, MAPS[map_name][None], BOX[None])
    expected = {"energy": 1.0, "energy_star": 1.0, "l1": 0.25, "ppce": LN_FLOOR}
    if name in expected:
        assert value.item() == pytest.approx(expected[name], rel=1e-6)
    if name.startswith("energy"):
        assert value.item() == 1.0
    if name != "rrr" or map_name == "zero":
        assert not gradient.any()


def test_an_empty_mask_scores_as_documented() -> None:
    attribution, empty = MAPS["random"][None], MASKS["empty"][None]
    assert energy(attribution, empty).item() == 1
    assert energy_star(attribution, empty).item() == 1
    assert ppce(attribution, empty).item() == 0


@loss_names
@pytest.mark.parametrize("factor", [1e-25, 1e-20, 1e-6, 1e6, 1e30])
def test_scale_of_the_map_does_not_matter(name: str, factor: float) -> None:
    attribution, mask = torch.randn(4, 3, 3), torch.rand(4, 8, 8) > 0.5
    value, gradient = value_and_gradient(name, attribution, mask)
    scaled_value, scaled_gradient = value_and_gradient(name, attribution * factor, mask)
    torch.testing.assert_close(scaled_value, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scaled_gradient * factor, gradient, rtol=1e-4, atol=1e-5)


@loss_names
def test_gradients_pass_gradcheck_once_and_twice(name: str) -> None:
    attribution = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 5, 5) > 0.5
    loss = partial(LOCALIZATION_LOSSES[name], mask=mask)
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
def test_no_maps_give_no_values_but_a_graph(name: str) -> None:
    value, gradient = value_and_gradient(name, torch.zeros(0, 3, 3), torch.zeros(0, 6, 6, dtype=torch.bool))
    assert value.shape == (0,)
    assert gradient.shape == (0, 3, 3)


@loss_names
@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_values_have_full_precision(name: str, given: torch.dtype, expected: torch.dtype) -> None:
    attribution, mask = torch.randn(2, 3, 3).to(given), torch.rand(2, 6, 6) > 0.5
    value = LOCALIZATION_LOSSES[name](attribution, mask)
    assert value.dtype == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LOCALIZATION_LOSSES[name](attribution, mask)
    torch.testing.assert_close(inside, value, rtol=0, atol=0)
    torch.testing.assert_close(value, LOCALIZATION_LOSSES[name](attribution.to(expected), mask), rtol=0, atol=0)


@loss_names
def test_a_map_that_is_not_a_number_is_not_hidden(name: str) -> None:
    attribution = torch.randn(2, 3, 3)
    attribution[1, 1, 1] = math.nan
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    mask[:, 1] = True
    value = LOCALIZATION_LOSSES[name](attribution, mask)
    assert value[0].isfinite()
    assert value[1].isnan()


def test_autocast_is_off_in_a_block_of_full_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(torch.eye(2, dtype=torch.bfloat16)) as x:
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_wrong_arguments_are_named() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\[2, 1, 4, 4\]"):
        energy(torch.zeros(2, 1, 4, 4), mask)
    with pytest.raises(ValueError, match="same M"):
        l1(torch.zeros(3, 4, 4), mask)
    with pytest.raises(ValueError, match=r"bool.*float32"):
        rrr(torch.zeros(2, 4, 4), mask.float())
    with pytest.raises(ValueError, match="'share'"):
        energy_star(torch.zeros(2, 4, 4), mask, area="share")
