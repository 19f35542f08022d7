"""Scores of single maps: EPG, IoU, SegEPG and X-SegEPG against hand-worked values and the slow reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from guidance.evaluation.scores import epg, iou, seg_epg, x_seg_epg
from guidance.maps import energy_of, upsample
from tests.reference import maps as slow
from tests.reference import scores as reference
from tests.support.maps import BOX, MAP

CORNER = torch.zeros(4, 4, dtype=torch.bool)

CORNER[0, 0] = True


def test_scores_of_a_known_map() -> None:
    assert epg(MAP[None], BOX[None]).tolist() == [6 / 8]
    assert seg_epg(MAP[None], BOX[None], CORNER[None]).item() == pytest.approx(4 / 6)
    assert x_seg_epg(MAP[None], CORNER[None]).item() == pytest.approx(4 / 8)
    # Normalised: 1, 0.5 and 0.5; active above 0.25: three pixels, two in the box; above 0.5: the corner.
    assert iou(MAP[None], BOX[None], [0.25, 0.5, 1.0]).tolist()[0] == pytest.approx([2 / 5, 1 / 4, 0])


def test_iou_scales_a_positive_map_by_its_smallest_and_largest_value() -> None:
    """1, 2.75, 4.5, 8 become 0, 1/4, 1/2, 1; without the subtraction 2.75 would be 0.34."""
    maps, mask = torch.tensor([[[1.0, 2.75], [4.5, 8.0]]]), torch.tensor([[[False, False], [True, True]]])
    assert iou(maps, mask, [0.0, 0.25, 0.3, 0.5]).tolist()[0] == pytest.approx([2 / 3, 1, 1, 1 / 2])


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e25])
def test_scores_equal_the_slow_reference_at_any_scale(scale: float) -> None:
    maps = upsample(torch.randn(8, 3, 4), (7, 6)) - torch.linspace(-1, 0.5, 8)[:, None, None]
    mask, segment = torch.rand(8, 7, 6) > 0.5, torch.rand(8, 7, 6) > 0.7
    thresholds = [0.0, 0.1, 0.5, 0.9]
    scaled = maps * scale
    exact = maps.double()
    close = {"rel": 1e-5, "abs": 1e-6}
    pairs = list(zip(exact, mask, segment, strict=True))
    assert epg(scaled, mask).tolist() == pytest.approx([reference.epg(a, m) for a, m, _ in pairs], **close)
    assert x_seg_epg(scaled, segment).tolist() == pytest.approx(
        [reference.x_seg_epg(a, s) for a, _, s in pairs], **close
    )
    expected = [reference.seg_epg(a, m, s) for a, m, s in pairs]
    assert seg_epg(scaled, mask, segment).tolist() == pytest.approx(expected, **close)
    for row, (a, m, _) in zip(iou(scaled, mask, thresholds).tolist(), pairs, strict=True):
        assert row == pytest.approx([reference.iou(a, m, t) for t in thresholds], **close)
    assert energy_of(scaled).exists.tolist() == [slow.has_energy(a) for a in exact]


def test_upsampling_equals_the_slow_reference() -> None:
    raw = torch.randn(2, 3, 5, dtype=torch.float64)
    for size in [(7, 9), (3, 5), (2, 2), (12, 5)]:
        expected = torch.tensor([slow.upsample(a, *size) for a in raw], dtype=torch.float64)
        torch.testing.assert_close(upsample(raw, size), expected)


def test_energy_inside_scores_one_and_outside_zero() -> None:
    inside = torch.where(BOX, torch.rand(4, 4) + 0.1, -torch.rand(4, 4))[None]
    assert epg(inside, BOX[None]).item() == 1
    assert epg(inside, ~BOX[None]).item() == 0


def test_a_constant_positive_map_covers_everything() -> None:
    for value in (0.1, 1e-20, 7.3):
        # Upsampling a constant leaves rounding noise, which must not be stretched to [0, 1].
        maps = upsample(torch.full((1, 3, 3), value), (7, 7))
        mask = torch.zeros(1, 7, 7, dtype=torch.bool)
        mask[0, 2:4, :3] = True
        torch.testing.assert_close(iou(maps, mask, [0.0, 0.5, 0.95]), torch.full((1, 3), 6 / 49))


def test_quadrants() -> None:
    """IoU 1/4 for a map that is active everywhere, and 1/5 for one that is active in half of each quadrant."""
    quadrant = torch.zeros(1, 4, 4, dtype=torch.bool)
    quadrant[0, :2, :2] = True
    checkerboard = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2
    assert iou(torch.ones(1, 4, 4), quadrant, [0.5]).item() == 0.25
    assert iou(checkerboard[None].float(), quadrant, [0.5]).item() == pytest.approx(2 / (8 + 2))


@pytest.mark.parametrize("maps", [torch.zeros(1, 4, 4), -torch.rand(1, 4, 4) - 0.1])
@pytest.mark.parametrize("mask", [BOX, torch.zeros_like(BOX), torch.ones_like(BOX)])
def test_maps_without_positive_energy_score_zero(maps: Tensor, mask: Tensor) -> None:
    assert not energy_of(maps).exists.any()
    assert epg(maps, mask[None]).item() == 0
    assert x_seg_epg(maps, mask[None]).item() == 0
    assert seg_epg(maps, mask[None], mask[None]).item() == 0
    assert not iou(maps, mask[None], [0.0, 0.5]).any()


def test_empty_masks_score_zero() -> None:
    empty = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert epg(MAP[None], empty).item() == 0
    assert seg_epg(MAP[None], empty, BOX[None]).item() == 0
    assert seg_epg(MAP[None], BOX[None], empty).item() == 0
    assert not iou(MAP[None], empty, [0.0, 1.0]).any()


def test_seg_epg_disregards_what_lies_outside_the_box() -> None:
    everything = torch.ones(1, 4, 4, dtype=torch.bool)
    assert seg_epg(MAP[None], BOX[None], everything).item() == 1


def test_scores_of_no_maps() -> None:
    maps, mask = torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool)
    assert epg(maps, mask).shape == seg_epg(maps, mask, mask).shape == energy_of(maps).exists.shape == (0,)
    assert iou(maps, mask, [0.1, 0.5]).shape == (0, 2)


def test_iou_looks_at_each_pixel_once_whatever_the_order_of_the_thresholds() -> None:
    """Pixels on a threshold are not above it, and NaN is above nothing."""
    levels = torch.arange(5, dtype=torch.float64) / 4
    maps = levels[torch.randint(5, (3, 6, 7), generator=torch.Generator().manual_seed(0))]
    maps[:, 0, :2] = torch.tensor([0.0, 1.0])
    mask = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(1)) > 0.6
    thresholds = [0.5, 0.0, 1.0, 0.25, 0.6, 0.5]
    expected = torch.stack(
        [((maps > t) & mask).sum((1, 2)) / ((maps > t) | mask).sum((1, 2)) for t in thresholds], dim=1
    )
    torch.testing.assert_close(iou(maps, mask, thresholds).float(), expected, rtol=0, atol=0)
    maps[1, 3, 3] = torch.nan  # the smallest and the largest value, and with them the whole map, are NaN then
    assert not iou(maps, mask, thresholds)[1].any()
