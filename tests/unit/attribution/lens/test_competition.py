"""The lens on maps: the paper's definition in a slow loop, its limits, and its gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from guidance.attribution.lens import class_shares, lens
from guidance.evaluation.scores import pixel_scores
from tests.reference import attributions as reference

VAR = {"inverse_temperatures": (10,), "magnitude": True, "threshold": 0.1}


@pytest.mark.parametrize("options", [{}, {"inverse_temperatures": (0.5, 20)}, VAR, {"magnitude": True}], ids=str)
def test_it_is_the_definition_in_a_slow_loop(options: dict[str, Any]) -> None:
    maps = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    found = lens(maps, **options)
    assert found.dtype == torch.float64
    assert 0 < (found == 0).double().mean() < 1
    for m in range(3):
        slow = reference.lens([a.tolist() for a in maps[:, m]], options.get("inverse_temperatures", (1, 5, 100)),
                              **{k: v for k, v in options.items() if k != "inverse_temperatures"})  # fmt: skip
        torch.testing.assert_close(found[:, m], torch.tensor(slow, dtype=torch.float64), rtol=1e-12, atol=0)


def test_one_cell_by_hand() -> None:
    """ln 2 and 0 at t = 1: shares 2/3 and 1/3; the lower class loses the cell."""
    maps = torch.tensor([2.0, 1.0], dtype=torch.float64).log().view(2, 1, 1, 1)
    assert lens(maps, inverse_temperatures=[1]).flatten().tolist() == pytest.approx([2 / 3 * maps[0].item(), 0])
    shares = class_shares(maps, inverse_temperatures=[1, 2]).flatten().tolist()
    assert shares == pytest.approx([(2 / 3 + 4 / 5) / 2, (1 / 3 + 1 / 5) / 2])


@pytest.mark.parametrize("scale", [1e-35, 1e-6, 1.0, 1e30], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_holds_at_every_scale(scale: float, dtype: torch.dtype) -> None:
    maps = torch.randn(3, 2, 9, 9, dtype=dtype) * scale
    shares, found = class_shares(maps), lens(maps)
    torch.testing.assert_close(shares.sum(0), torch.ones(2, 9, 9, dtype=dtype))
    assert found.isfinite().all()
    assert (found.abs() <= maps.abs()).all()
    assert (found * maps >= 0).all()
    assert (lens(maps[:1].expand(3, -1, -1, -1)) == 0).all()  # equal maps share everything
    for maps_of_two in (maps[:2], maps[:2] * 1e-3):  # of two classes the larger one keeps its cell
        assert torch.equal(lens(maps_of_two) != 0, maps_of_two > maps_of_two.flip(0))


def test_one_class_alone_keeps_its_map() -> None:
    maps = torch.randn(1, 2, 3, 3)
    assert torch.equal(lens(maps), maps)
    assert torch.equal(lens(maps, **VAR), maps)  # type: ignore[arg-type]
    present = torch.tensor([[True, True], [False, True]])
    two = torch.randn(2, 2, 3, 3)
    found = lens(two, present=present)
    assert torch.equal(found[0, 0], two[0, 0])
    assert not found[1, 0].any()
    torch.testing.assert_close(found[:, 1:], lens(two[:, 1:]))


def test_who_is_absent_does_not_count() -> None:
    maps = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    with_others = torch.cat((maps[:2], maps[2:3] * 1e200, maps[2:], -maps[:1] * 1e9))
    present = torch.tensor([True, True, False, True, True, False])[:, None]
    for options in ({}, {"normalize": True}):
        torch.testing.assert_close(lens(with_others, present=present, **options)[present[:, 0]], lens(maps, **options))
        assert not lens(with_others, present=present, **options)[~present[:, 0]].any()
        shares = class_shares(with_others, present=present, **options)
        torch.testing.assert_close(shares.sum(0), torch.ones(1, 6, 6, dtype=torch.float64))


def test_normalised_maps_compete_alike_at_every_scale_and_raw_ones_do_not() -> None:
    maps = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    sizes = torch.tensor([1e-3, 50.0], dtype=torch.float64)[:, None, None]  # of the two images
    options = {"normalize": True}
    torch.testing.assert_close(lens(maps * sizes, **options), lens(maps, **options) * sizes)  # type: ignore[arg-type]
    peak = maps.abs().amax((0, 2, 3), keepdim=True)
    torch.testing.assert_close(lens(maps, **options), lens(maps / peak) * peak)  # type: ignore[arg-type]
    tiny = class_shares(maps * 1e-6)
    assert (tiny - 1 / 3).abs().max() < 1e-4
    assert not torch.allclose(lens(maps * sizes), lens(maps) * sizes)
    assert not lens(torch.zeros(2, 1, 2, 2), normalize=True).any()


@pytest.mark.parametrize("options", [{}, {"normalize": True}, VAR], ids=str)
def test_gradcheck(options: dict[str, Any]) -> None:
    maps = torch.randn(3, 2, 3, 3, dtype=torch.float64).requires_grad_()
    present = torch.tensor([[True, True], [True, True], [True, False]])
    inputs = (lambda a: lens(a, present=present, **options), (maps,))
    assert torch.autograd.gradcheck(*inputs)
    huge = (torch.randn(3, 2, 3, 3) * 1e38).requires_grad_()
    lens(huge, **options).sum().backward()
    assert huge.grad is not None
    assert huge.grad.isfinite().all()


def test_a_half_keeps_what_an_all_active_map_loses() -> None:
    """On quadrants: a map that is positive everywhere has IoU 0.25 and F1 0.40; of noisy signs, 0.20 and 0.33."""
    torch.manual_seed(0)
    quadrant = torch.zeros(1, 64, 64, dtype=torch.bool)
    quadrant[:, :32, :32] = True
    everywhere, noise = torch.rand(1, 64, 64) + 0.1, torch.randn(1, 64, 64)
    for map_, iou, f1 in ((everywhere, 0.25, 0.40), (noise, 0.20, 1 / 3)):
        found = pixel_scores(map_, quadrant)
        assert found["pixel_iou"].item() == pytest.approx(iou, abs=0.01)
        assert found["pixel_f1"].item() == pytest.approx(f1, abs=0.015)
    # Where the class has more evidence than its rival in its own quadrant alone, the lens finds just that.
    refined = lens(torch.stack((everywhere, torch.where(quadrant, 0.05, 2.0))))[0]
    assert pixel_scores(refined, quadrant)["pixel_iou"].item() == 1


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        (torch.rand(2, 3, 3), {}, r"takes the maps of one class or more, \[C', M, h, w\], not \[2, 3, 3\]"),
        (torch.rand(2, 1, 3, 3), {"inverse_temperatures": ()}, "one or more positive numbers"),
        (torch.rand(2, 1, 3, 3), {"inverse_temperatures": (1, 0)}, "one or more positive numbers"),
        (torch.rand(2, 1, 3, 3), {"threshold": 1.0}, "at least 0 and below 1, not 1.0"),
        (torch.rand(2, 1, 3, 3), {"present": torch.ones(2, 2, dtype=torch.bool)}, r"for \[2, 1\] classes and maps"),
    ],
)
def test_what_it_refuses(maps: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lens(maps, **options)
