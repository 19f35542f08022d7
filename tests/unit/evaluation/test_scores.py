"""Region attribution, pixel scores, SegEPG against X-SegEPG, and rows of pairs that know only where evidence must not be."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional

from guidance.evaluation.localization import fit_iou_threshold
from guidance.evaluation.metrics import METRICS, summarize
from guidance.evaluation.rows import RowSettings, merge
from guidance.evaluation.scores import ALL_SCORES, all_scores, epg, pixel_scores, region_attribution, seg_epg, x_seg_epg
from guidance.evaluation.tables import BatchTables, Scoring, collect
from guidance.regions import BOX, NEVER, SEGMENT
from guidance.types import Batch, Regions
from tests.reference import scores as reference

MAP = torch.tensor([[4.0, -2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0]])[None]
QUADRANT = torch.zeros(1, 4, 4, dtype=torch.bool)
QUADRANT[0, :2, :2] = True
CORNER = torch.zeros(1, 4, 4, dtype=torch.bool)
CORNER[0, 0, 0] = True
EMPTY = torch.zeros(1, 4, 4, dtype=torch.bool)


# Region attribution


def test_region_attribution_by_hand() -> None:
    """With a very wide Gaussian all 11 taps weigh the same: of the mirrored 4 pixels the first gets 1, 2, 2, 2 of them."""
    point = CORNER.float()
    assert region_attribution(point, CORNER, sigma=1e6).item() == pytest.approx(1 / 49)
    assert region_attribution(point, QUADRANT, sigma=1e6).item() == pytest.approx(9 / 49)


def test_a_narrow_blur_gives_epg_and_negative_values_count_for_nothing() -> None:
    assert region_attribution(MAP, QUADRANT, sigma=0.05).item() == pytest.approx(6 / 8)
    assert region_attribution(MAP, QUADRANT) == region_attribution(MAP.relu(), QUADRANT)
    assert region_attribution(MAP, QUADRANT).item() != pytest.approx(6 / 8, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 30.0])
@pytest.mark.parametrize("size", [(4, 4), (1, 7), (6, 2), (1, 1)])
def test_region_attribution_equals_the_slow_reference(sigma: float, size: tuple[int, int]) -> None:
    maps, mask = torch.randn(4, *size), torch.rand(4, *size) > 0.5
    expected = [reference.region_attribution(a, m, sigma) for a, m in zip(maps.double(), mask, strict=True)]
    assert region_attribution(maps, mask, sigma=sigma).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_blur_is_that_of_torchvision() -> None:
    maps, mask = torch.rand(3, 20, 14), torch.rand(3, 20, 14) > 0.5
    blurred = functional.gaussian_blur(maps, [11, 11], [2.0, 2.0])
    expected = (blurred * mask).sum((1, 2)) / blurred.sum((1, 2))
    torch.testing.assert_close(region_attribution(maps, mask), expected)


def test_a_uniform_map_stays_uniform() -> None:
    mask = torch.rand(1, 9, 13) > 0.5
    assert region_attribution(torch.full((1, 9, 13), 1e-20), mask).item() == pytest.approx(mask.double().mean().item())


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_a_blur_has_a_width(sigma: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        region_attribution(MAP, QUADRANT, sigma=sigma)


# Pixel scores


def as_numbers(scores: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in scores.items()}


def test_pixel_scores_by_hand() -> None:
    """Three active pixels, two in the quadrant; above half of the largest value, only the corner."""
    expected = {"pixel_precision": 2 / 3, "pixel_recall": 2 / 4, "pixel_f1": 4 / 7, "pixel_iou": 2 / 5}
    assert as_numbers(pixel_scores(MAP, QUADRANT)) == pytest.approx(expected)
    expected = {"pixel_precision": 1, "pixel_recall": 1 / 4, "pixel_f1": 2 / 5, "pixel_iou": 1 / 4}
    assert as_numbers(pixel_scores(MAP, QUADRANT, threshold=0.5)) == pytest.approx(expected)


def test_published_values_on_quadrants() -> None:
    """Active everywhere, not only where it is constant: 0.25 and 0.40. Active in every second pixel: 0.20 and 0.33."""
    everywhere = as_numbers(pixel_scores(torch.rand(1, 4, 4) + 0.1, QUADRANT))
    assert (everywhere["pixel_iou"], everywhere["pixel_f1"]) == pytest.approx((0.25, 0.40))
    checkerboard = ((torch.arange(4)[:, None] + torch.arange(4)[None]) % 2)[None].float()
    half = as_numbers(pixel_scores(checkerboard - 0.5, QUADRANT))
    assert (half["pixel_iou"], half["pixel_f1"]) == pytest.approx((0.2, 1 / 3))


def test_pixels_of_a_blurred_map() -> None:
    """Blurred, noise is active nearly everywhere, so it scores like a map that is; the point has spread over its quadrant."""
    checkerboard = (torch.arange(32)[:, None] + torch.arange(32)[None, :]).remainder(2)[None].float() - 0.5
    quadrant = torch.zeros(1, 32, 32, dtype=torch.bool)
    quadrant[:, :16, :16] = True
    raw, blurred = (as_numbers(pixel_scores(checkerboard, quadrant, sigma=sigma)) for sigma in (None, 2.0))
    assert (raw["pixel_iou"], raw["pixel_f1"]) == pytest.approx((0.2, 1 / 3))
    assert (blurred["pixel_iou"], blurred["pixel_f1"]) == pytest.approx((0.25, 0.4))
    maps, mask = torch.randn(3, 9, 7, dtype=torch.float64), torch.rand(3, 9, 7) > 0.5
    for threshold in (0.0, 0.4):
        found = pixel_scores(maps, mask, threshold=threshold, sigma=1.5)
        for row, (a, m) in enumerate(zip(maps, mask, strict=True)):
            expected = reference.pixel_scores(reference.blur(a.clamp_min(0), 1.5), m, threshold)
            assert {name: float(x[row]) for name, x in found.items()} == pytest.approx(expected)
    with pytest.raises(ValueError, match="sigma of the blur"):
        pixel_scores(maps, mask, sigma=0.0)
    plain, chosen = (all_scores(maps, mask, sigma=1.5, blurred_pixels=blurred) for blurred in (False, True))
    assert torch.equal(plain["region_attribution"], chosen["region_attribution"])
    for found, sigma in ((plain, None), (chosen, 1.5)):
        assert torch.equal(found["pixel_f1"], pixel_scores(maps, mask, sigma=sigma)["pixel_f1"])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_pixel_scores_equal_the_slow_reference(threshold: float, scale: float) -> None:
    maps, mask = torch.randn(6, 5, 4), torch.rand(6, 5, 4) > 0.5
    maps[0], mask[1] = -1.0, False
    found = pixel_scores(maps * scale, mask, threshold=threshold)
    for i, (a, m) in enumerate(zip(maps.double(), mask, strict=True)):
        expected = reference.pixel_scores(a, m, threshold)
        assert {name: value[i].item() for name, value in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        pixel_scores(MAP, QUADRANT, threshold=threshold)


@pytest.mark.parametrize(
    ("maps", "mask"), [(torch.zeros(1, 4, 4), QUADRANT), (-torch.rand(1, 4, 4) - 0.1, QUADRANT), (MAP, EMPTY)]
)
def test_nothing_to_find_scores_zero(maps: Tensor, mask: Tensor) -> None:
    assert as_numbers(all_scores(maps, mask)) == dict.fromkeys(ALL_SCORES, 0)


def test_all_scores_of_no_maps() -> None:
    found = all_scores(torch.zeros(0, 4, 4), EMPTY[:0])
    assert set(found) == set(ALL_SCORES)
    assert all(score.shape == (0,) for score in found.values())


# SegEPG and X-SegEPG


values = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1e-7, -1e-7, 1e-30, 1.0])


@settings(deadline=None, max_examples=200)
@given(st.lists(values, min_size=12, max_size=12), st.integers(0, 2**12 - 1), st.integers(0, 2**12 - 1))
def test_x_seg_epg_is_the_smallest_of_the_three(numbers: list[float], box: int, part: int) -> None:
    """For every map, however small its energy in the box, wherever the segmentation lies inside the box."""
    maps = torch.tensor(numbers).reshape(1, 3, 4)
    mask, segment = (
        torch.tensor([bits >> i & 1 for i in range(12)]).bool().reshape(1, 3, 4) for bits in (box, box & part)
    )
    score = x_seg_epg(maps, segment)
    assert (score <= seg_epg(maps, mask, segment)).all()
    assert (score <= epg(maps, mask)).all()


def test_little_energy_in_the_box_is_still_shared_out() -> None:
    """Of a box with 0.5e-7 of positive and 1 of negative evidence, beside 1.5e-7 outside."""
    maps = torch.tensor([[[-1.0, 0.5e-7, 1.5e-7]]])
    mask, segment = torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, False]]])
    assert x_seg_epg(maps, segment).item() == pytest.approx(0.25)
    assert seg_epg(maps, mask, segment).item() == 1


# Rows


def make_batch(never: bool = True) -> tuple[Batch, Tensor]:
    """Three pairs of one image: boxes, a segmentation as the mask, and one that only knows where evidence must not be."""
    mask = torch.stack((QUADRANT[0], CORNER[0], ~QUADRANT[0]))
    segment = torch.stack((CORNER[0], CORNER[0], EMPTY[0]))
    forbidden = torch.stack((EMPTY[0], CORNER[0], QUADRANT[0]))
    regions = Regions(
        torch.zeros(3, dtype=torch.long), torch.arange(3), mask, segment, 3,
        torch.tensor([BOX, SEGMENT, NEVER]), forbidden if never else None,
    )  # fmt: skip
    none = torch.zeros(1, dtype=torch.long)
    return Batch(torch.zeros(1, 3, 4, 4), torch.ones(1, 3), regions, none - 1, none), MAP.expand(3, 4, 4)


def test_pairs_without_a_place_for_evidence_distort_nothing() -> None:
    batch, maps = make_batch()
    scoring = Scoring((0.25, 0.5), more=all_scores)
    rows = merge([collect(batch, torch.zeros(1, 3), maps, scoring=scoring)], RowSettings((0.25, 0.5)))
    assert rows.kind.tolist() == [BOX, SEGMENT, NEVER]
    assert rows.pixels.tolist() == [4, 1, 12]
    assert rows.area.tolist() == [4 / 16, 1 / 16, 12 / 16]
    metrics = summarize(rows)
    assert metrics["epg"] == pytest.approx((6 / 8 + 4 / 8) / 2)
    assert metrics["epg_chance"] == pytest.approx((4 + 1) / 32)
    assert metrics["normalized_epg"] == pytest.approx((6 / 8 / 2 + 4 / 8) / 2)
    assert metrics["iou"] == pytest.approx((1 / 4 + 1 / 1) / 2)
    assert metrics["seg_epg"] == pytest.approx(4 / 6)  # where the mask is the segmentation, it would always be 1
    assert metrics["x_seg_epg"] == pytest.approx(4 / 8)
    assert metrics["never_energy"] == pytest.approx((4 / 8 + 6 / 8) / 2)
    assert metrics["pixel_recall"] == pytest.approx((2 / 4 + 1) / 2)
    assert metrics["region_attribution"] == pytest.approx(rows.more["region_attribution"][:2].mean().item())
    assert metrics["epg_size_correlation"] == pytest.approx(1)
    assert metrics["zero_maps"] == 0


def test_the_threshold_is_fitted_without_pairs_that_distort() -> None:
    batch, maps = make_batch()
    rows = merge([collect(batch, torch.zeros(1, 3), maps)], RowSettings())
    scores = torch.zeros_like(rows.iou)
    scores[:2, 5], scores[2, 9] = 0.2, 1.0
    assert fit_iou_threshold(replace(rows, iou=scores)) == rows.settings.thresholds[5]
    only = replace(rows, kind=torch.full((3,), NEVER))
    assert fit_iou_threshold(only) == only.settings.iou_threshold
    assert math.isnan(summarize(only)["epg"])


def test_what_was_not_asked_for_is_left_out() -> None:
    batch, maps = make_batch(never=False)
    rows = merge([collect(batch, torch.zeros(1, 3), maps)], RowSettings())
    metrics = summarize(rows)
    assert not set(ALL_SCORES) & set(metrics)
    assert set(ALL_SCORES) < set(METRICS)
    assert all(math.isnan(METRICS[name].function(rows)) for name in ALL_SCORES)
    assert math.isnan(metrics["never_energy"])
    assert not rows.has_never.any()


def shifted(tables: BatchTables) -> BatchTables:
    moved = {"region_index": tables.pairs["region_index"] + 1}
    return tables._replace(samples=tables.samples | {"index": tables.samples["index"] + 1}, pairs=tables.pairs | moved)


def test_further_scores_are_sorted_with_their_pairs() -> None:
    batch, maps = make_batch()
    scoring = Scoring(more=partial(all_scores, threshold=0.3, sigma=1.0))
    first, second = (collect(batch, torch.zeros(1, 3), m, scoring=scoring) for m in (maps, -maps))
    rows = merge([shifted(second), first], RowSettings())
    for name in ALL_SCORES:
        assert torch.equal(rows.more[name], torch.cat((first.more[name], second.more[name])))
    expected = all_scores(maps, batch.regions.mask, threshold=0.3, sigma=1.0)
    torch.testing.assert_close(first.more, {name: score.double() for name, score in expected.items()})
