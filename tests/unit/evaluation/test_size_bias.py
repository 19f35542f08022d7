"""EPG and the size of the mask: normalisation, correlation, bins, and their figure."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from guidance.evaluation.metrics import METRICS
from guidance.evaluation.rows import Rows
from guidance.evaluation.size_bias import SIZE_EDGES, SizeBin, epg_by_size, normalized_epg, size_correlation
from guidance.evaluation.statistics import pearson
from guidance.pictures.plots import plot_size_bins
from guidance.regions import BOX, NEVER
from tests.support.rows import make_rows


def sized(area: list[float], epg: list[float], *, pixels: int = 100, **settings: object) -> Rows:
    """Rows of pairs whose masks cover the shares `area` of an image of `pixels` pixels."""
    n, none = len(area), torch.zeros(len(area), dtype=torch.float64)
    share = torch.tensor(area, dtype=torch.float64)
    rows = replace(
        make_rows([[0.0]], [[1.0]]), region_index=torch.arange(n), region_target=torch.zeros(n, dtype=torch.long),
        kind=torch.full((n,), BOX), area=share, pixels=share * pixels, energy=none == 0, has_segment=none > 0,
        epg=torch.tensor(epg, dtype=torch.float64), never_energy=none, has_never=none > 0,
    )  # fmt: skip
    return replace(rows, **settings)


def test_normalised_epg_by_hand() -> None:
    rows = sized([0.25, 0.04, 0.0], [0.5, 0.3, 0.0])
    assert normalized_epg(rows).tolist() == pytest.approx([0.5 / 5, 0.3 / 2, 0])
    assert METRICS["normalized_epg"].function(rows) == pytest.approx((0.1 + 0.15) / 3)


@pytest.mark.parametrize("correlation", [-1.0, -0.3, 0.0, 0.1680, 0.8209, 1.0])
def test_pairs_of_known_correlation(correlation: float) -> None:
    """y = r x + sqrt(1 - r^2) z of two sequences that are orthogonal, centred and equally long: exactly r."""
    n = 200
    angles = 2 * np.pi * np.arange(n) / n
    x, z = np.cos(angles), np.sin(angles)
    y = correlation * x + math.sqrt(1 - correlation**2) * z
    assert pearson((50 + 20 * x).tolist(), (0.4 + 0.1 * y).tolist()) == pytest.approx(correlation, abs=1e-12)
    rows = sized((0.5 + 0.2 * x).tolist(), (0.4 + 0.1 * y).tolist(), pixels=224 * 224)
    assert METRICS["epg_size_correlation"].function(rows) == pytest.approx(correlation, abs=1e-12)
    proportional = replace(rows, epg=rows.epg * rows.pixels.sqrt())
    assert METRICS["normalized_epg_size_correlation"].function(proportional) == pytest.approx(correlation, abs=1e-12)


def test_correlation_equals_numpy_whatever_the_scale() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    for scale in (1e-12, 1.0, 1e12):
        assert pearson((x * scale).tolist(), y.tolist()) == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [0.0, 3.0]), ([0.0, 3.0], [0.1, 0.1])])
def test_an_undefined_correlation_is_nan(x: list[float], y: list[float]) -> None:
    assert math.isnan(pearson(x, y))
    assert math.isnan(size_correlation(sized(x, y), torch.tensor(y, dtype=torch.float64)))


def test_a_correlation_needs_pairs() -> None:
    with pytest.raises(ValueError, match="1 and 2 values"):
        pearson([1.0], [1.0, 2.0])


def test_bins_by_hand() -> None:
    """An edge belongs to the bin above it, the last edge to the last bin; pairs without a place for evidence to none."""
    rows = sized([0.0, 0.05, 0.1, 0.4, 1.0, 0.05], [0.0, 0.2, 0.4, 0.5, 1.0, 0.9],
                 kind=torch.tensor([BOX] * 5 + [NEVER]))  # fmt: skip
    first, second, third, fourth = epg_by_size(rows, (0.0, 0.1, 0.5, 0.6, 1.0))
    assert first == SizeBin(0.0, 0.1, 2, pytest.approx(0.1), pytest.approx(0.025))
    assert second == SizeBin(0.1, 0.5, 2, pytest.approx(0.45), pytest.approx(0.25))
    assert (third.pairs, math.isnan(third.epg), math.isnan(third.chance)) == (0, True, True)
    assert fourth == SizeBin(0.6, 1.0, 1, 1.0, 1.0)


def test_the_default_bins_hold_every_pair() -> None:
    areas = torch.linspace(0, 1, 101).tolist()
    bins = epg_by_size(sized(areas, areas))
    assert [b.low for b in bins] == list(SIZE_EDGES[:-1])
    assert sum(b.pairs for b in bins) == 101
    assert all(b.epg == b.chance for b in bins)  # EPG is the share of the image: chance


@pytest.mark.parametrize("edges", [[0.5], [0.0, 0.0, 1.0], [1.0, 0.0]])
def test_edges_ascend(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        epg_by_size(sized([0.1], [0.1]), edges)


def test_the_figure_shows_both_lines_and_the_counts(tmp_path: Path) -> None:
    bins = epg_by_size(sized([0.05, 0.05, 0.7], [0.3, 0.5, 0.8]))
    figure = plot_size_bins(bins)
    figure.savefig(tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 5000
    (axes,) = figure.axes
    epg, chance = (np.asarray(line.get_ydata(), dtype=float) for line in axes.lines)
    assert epg[[2, 6]] == pytest.approx([0.4, 0.8])
    assert chance[[2, 6]] == pytest.approx([0.05, 0.7])
    assert np.isnan(np.delete(epg, [2, 6])).all()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[2:4] == ["3 to 10\n2", "10 to 20\n0"]
    (pairs,) = axes.texts
    assert (pairs.get_text(), pairs.get_size()) == ("pairs", axes.get_xticklabels()[0].get_size())
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_size_bins(epg_by_size(sized([], [])))
