"""Curves over a setting: where points, bars and the baseline lie."""

from __future__ import annotations

import math

import pytest

from guidance.pictures.robustness import Curve, CurvePanel, plot_curves


def test_curves_over_a_setting() -> None:
    curves = [Curve("Energy", 0, [0, 0.5], [0.4, 0.3], [0.1, math.nan]), Curve("L1", 1, [0.5], [0.2], [0.0])]
    panels = [CurvePanel("EPG", curves, (0.25, 0.05)), CurvePanel("F1", curves)]
    figure = plot_curves(panels, "data.dilation", ticks=[(0.0, "0"), (0.5, "0.5")], title="R8")
    first, second = figure.axes
    assert [float(y) for y in first.lines[0].get_ydata()] == [0.4, 0.3]
    assert [float(x) for x in first.lines[0].get_xdata()] == pytest.approx(
        [0, 0.5], abs=0.01
    )  # apart from L1, a little
    assert first.lines[0].get_xdata()[1] != first.containers[1].lines[0].get_xdata()[0]
    segments = first.containers[0].lines[2][0].get_segments()
    assert [[float(y) for _, y in bar] for bar in segments] == [pytest.approx([0.3, 0.5]), [0.3, 0.3]]
    horizontal = [line for line in first.lines if list(line.get_ydata()) == [0.25, 0.25]]
    assert len(horizontal) == 1
    assert not [line for line in second.lines if line.get_linestyle() == ":"]
    assert [text.get_text() for text in first.get_xticklabels()] == ["0", "0.5"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Energy", "L1", "baseline (band: s.d. over seeds)"]
    with pytest.raises(ValueError, match="no curve to draw"):
        plot_curves([], "data.dilation", ticks=[])
