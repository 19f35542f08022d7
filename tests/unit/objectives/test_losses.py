"""Localisation losses: exact values, slow references, their rows and options, wrong arguments."""

from __future__ import annotations

import math

import pytest
import torch

from guidance.losses import LOCALIZATION_LOSSES, energy, energy_star, l1, localization_loss, ppce, rrr
from guidance.maps import upsample
from tests.reference import losses as reference
from tests.support.maps import BOX, MAP

LN_FLOOR = -math.log(1e-6)

loss_names = pytest.mark.parametrize("name", LOCALIZATION_LOSSES)


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
    assert LOCALIZATION_LOSSES[name].function(MAP[None], BOX[None]).item() == pytest.approx(expected, rel=1e-6)


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
    assert LOCALIZATION_LOSSES[name].function(attribution, BOX[None]).item() == pytest.approx(expected, rel=1e-6)


@loss_names
@pytest.mark.parametrize(("shape", "size"), [((4, 4), (4, 4)), ((1, 1), (4, 5)), ((2, 3), (7, 9)), ((7, 7), (5, 6))])
def test_equals_the_slow_reference(name: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    attribution = torch.randn(6, *shape, dtype=torch.float64)
    mask = torch.rand(6, *size) > torch.linspace(0.1, 0.9, 6)[:, None, None]
    values = LOCALIZATION_LOSSES[name].function(attribution, mask)
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
    value = LOCALIZATION_LOSSES[name].function(torch.full((1, 2, 2), 0.3), BOX[None])
    assert value.item() == pytest.approx(expected, abs=1e-6)


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


# Rows


@loss_names
def test_the_row_says_where_a_loss_looks(name: str) -> None:
    """Evidence that is moved about where it does not look changes nothing, and elsewhere it does."""
    looks = LOCALIZATION_LOSSES[name].looks
    loss = localization_loss(name)
    moved_inside, moved_outside = MAP.clone(), MAP.clone()
    moved_inside[:2, :2] = MAP[:2, :2].flip(0, 1)  # energy and peak stay
    moved_outside[2:, 2:] = MAP[2:, 2:].flip(0, 1) * 0.5
    before, inside, outside = (float(loss(m[None], BOX[None])) for m in (MAP, moved_inside, moved_outside))
    assert (before == pytest.approx(inside)) or looks != "outside"
    assert (before == pytest.approx(outside)) == (looks == "inside")


def test_options_take_the_place_of_defaults() -> None:
    attribution, mask = torch.randn(3, 2, 3), torch.rand(3, 6, 6) > 0.6
    torch.testing.assert_close(
        localization_loss("energy_star", {"area": "fraction"})(attribution, mask),
        energy_star(attribution, mask, alpha=0.5, area="fraction"), rtol=0, atol=0,
    )  # fmt: skip
    assert localization_loss("rrr") is rrr


def test_unknown_losses_and_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown localisation loss 'enrgy'.* Did you mean 'energy'\?"):
        localization_loss("enrgy")
    with pytest.raises(
        ValueError, match=r"energy_star has no option 'aplha'; it takes alpha, area\. Did you mean 'alpha'"
    ):
        localization_loss("energy_star", {"aplha": 1.0})
    with pytest.raises(ValueError, match=r"energy has no option 'alpha'; it takes none"):
        localization_loss("energy", {"alpha": 1.0})


@pytest.mark.parametrize("name", LOCALIZATION_LOSSES)
def test_rows_say_what_is_true_of_their_loss(name: str) -> None:
    """Whether negative evidence counts; and that a loss which looks inside alone does not see what lies outside."""
    row, mask = LOCALIZATION_LOSSES[name], torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    negative = -torch.rand(1, 4, 4, dtype=torch.float64) - 0.1
    (gradient,) = torch.autograd.grad(row.function(negative.requires_grad_(), mask).sum(), negative)
    assert bool(gradient.abs().sum() > 0) == row.signed
    maps = torch.rand(1, 4, 4, dtype=torch.float64)
    maps[:, 0, 0] = 1.0  # the largest value, by which some divide
    values = []
    for factor in (1.0, 0.5):
        changed = torch.where(mask, maps, factor * maps)
        values.append(float(row.function(changed, mask)))
    assert (values[0] == values[1]) == (row.looks == "inside")
