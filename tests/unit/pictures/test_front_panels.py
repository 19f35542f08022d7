"""Panels of fronts: where marks, lines, cross and regions lie, in data."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

from guidance.pictures.front_panels import Cross, FrontPanel, FrontSeries, plot_fronts, style_of, turned

EPOCHS = np.array([[0.5, 0.3], [0.6, 0.2], [0.4, 0.1]])
BEST, MEDIAN, ALL = np.array([[0.5, 0.3], [0.6, 0.2]]), np.array([[0.5, 0.2]]), np.array([[0.4, 0.1]])


def panel(
    metrics: tuple[str, str] = ("f1", "epg"), *, surfaces: tuple[np.ndarray, ...] = (BEST,), **more: object
) -> FrontPanel:
    series = FrontSeries("Energy", 1, EPOCHS, EPOCHS[:2], surfaces)
    return FrontPanel(metrics, (series,), **more)  # type: ignore[arg-type]


def lines(axes: Axes) -> list[list[tuple[float, float]]]:
    """The stairs of an axes: lines of more than a point."""
    found = [list(zip(*(map(float, d) for d in line.get_data()), strict=True)) for line in axes.lines]
    return [points for points in found if len(points) > 2]


def test_marks_and_stairs_lie_at_the_values() -> None:
    (axes,) = plot_fronts([[panel()]]).axes
    assert [np.asarray(c.get_offsets()).tolist() for c in axes.collections] == [EPOCHS.tolist(), EPOCHS[:2].tolist()]
    left, low = axes.get_xlim()[0], axes.get_ylim()[0]
    # From the left at the height of the first corner, down at each corner, to the floor.
    assert lines(axes) == [[(left, 0.3), (0.5, 0.3), (0.5, 0.2), (0.6, 0.2), (0.6, low)]]
    assert not axes.patches
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("F1", "EPG")


def test_the_median_is_a_line_and_the_spread_a_band() -> None:
    (axes,) = plot_fronts([[panel(surfaces=(BEST, MEDIAN, ALL))]]).axes
    left, low = axes.get_xlim()[0], axes.get_ylim()[0]
    assert lines(axes) == [[(left, 0.2), (0.5, 0.2), (0.5, low)]]
    (band,) = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert {(round(x, 6), round(y, 6)) for x, y in band.get_xy()} == {
        (round(x, 6), round(y, 6))
        for x, y in [(left, 0.3), (0.5, 0.3), (0.5, 0.2), (0.6, 0.2), (0.6, low), (0.4, low), (0.4, 0.1), (left, 0.1)]
    }


@pytest.mark.parametrize("metrics", [("f1", "epg"), ("never_energy", "epg"), ("f1", "never_energy")])
def test_regions_of_the_baseline_are_those_that_dominate_it(metrics: tuple[str, str]) -> None:
    """Also where lower is better, and the axis is turned round."""
    (axes,) = plot_fronts([[panel(metrics, baseline=Cross(0.45, 0.15, 0.02))]]).axes
    better, worse = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    sign = [-1 if name == "never_energy" else 1 for name in metrics]
    for patch, way in ((better, 1), (worse, -1)):
        assert patch.get_xy() == (0.45, 0.15)
        assert np.sign(patch.get_width()) == way * sign[0]
        assert np.sign(patch.get_height()) == way * sign[1]
    corner = axes.get_xlim()[1], axes.get_ylim()[1]
    assert (0.45 + better.get_width(), 0.15 + better.get_height()) == pytest.approx(corner)
    assert [bool(patch.get_hatch()) for patch in (better, worse)] == [True, False]  # they differ without colour
    assert (axes.get_xlim()[0] > axes.get_xlim()[1]) == (sign[0] < 0)
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["Energy", "baseline", "dominates the baseline", "dominated by the baseline"]


def test_a_grid_with_a_gap_and_one_legend() -> None:
    top, low = panel(column="resnet50", row="input"), panel(row="final")
    figure = plot_fronts([[top, None], [low, panel(surfaces=(BEST, MEDIAN, ALL))]], title="R1")
    assert [axes.get_subplotspec().num1 for axes in figure.axes] == [0, 2, 3]  # type: ignore[union-attr]
    assert [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes[:2]] == [
        ("resnet50", "input\nEPG"),
        ("", "final\nEPG"),
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Energy",
        "line: median of seeds; band: all to best",
    ]
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert all(axes.get_tightbbox().y0 >= legend.y1 for axes in figure.axes)  # type: ignore[union-attr]
    for nothing in ([], [[None]]):
        with pytest.raises(ValueError, match="no panel to draw"):
            plot_fronts(nothing)


def test_styles_differ_in_colour_and_in_marker() -> None:
    assert len({style_of(number) for number in range(14)}) == 14
    assert len({style_of(number)[1] for number in range(7)}) == len({style_of(number)[0] for number in range(7)}) == 7


def test_turning_twice_gives_the_values_back() -> None:
    points = np.array([[0.2, 0.3], [0.7, 0.1]])
    assert turned(points, ("f1", "never_energy")).tolist() == [[0.2, 0.7], [0.7, 0.9]]
    assert turned(turned(points, ("f1", "never_energy")), ("f1", "never_energy")) == pytest.approx(points)
    assert turned(np.empty((0, 2)), ("f1", "epg")).shape == (0, 2)
