"""Localisation losses where there is little to go by, whatever the scale: finite, known values, no pull."""

from __future__ import annotations

import math

import pytest
import torch

from guidance.losses import LOCALIZATION_LOSSES, energy, energy_star, ppce
from tests.reference import losses as reference
from tests.support.maps import BOX, box, value_and_gradient

loss_names = pytest.mark.parametrize("name", LOCALIZATION_LOSSES)

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
    expected = {"energy": 1.0, "energy_star": 1.0, "l1": 0.25, "ppce": -math.log(1e-6)}
    if name in expected:
        assert value.item() == pytest.approx(expected[name], rel=1e-6)
    if name.startswith("energy"):
        assert value.item() == 1.0
    if not LOCALIZATION_LOSSES[name].signed or map_name == "zero":
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
def test_no_maps_give_no_values_but_a_graph(name: str) -> None:
    value, gradient = value_and_gradient(name, torch.zeros(0, 3, 3), torch.zeros(0, 6, 6, dtype=torch.bool))
    assert value.shape == (0,)
    assert gradient.shape == (0, 3, 3)


@loss_names
def test_a_map_that_is_not_a_number_is_not_hidden(name: str) -> None:
    attribution = torch.randn(2, 3, 3)
    attribution[1, 1, 1] = math.nan
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    mask[:, 1] = True
    value = LOCALIZATION_LOSSES[name].function(attribution, mask)
    assert value[0].isfinite()
    assert value[1].isnan()
