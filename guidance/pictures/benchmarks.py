"""Benchmarks of attribution methods as figures: bars, and curves with (solid) and without (dashed) the lens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from guidance.pictures.plots import RUN_COLOURS, style_of


class Line(NamedTuple):
    """A curve of one method and variant."""

    method: str
    refined: bool
    x: Sequence[float]
    y: Sequence[float]


class LinePanel(NamedTuple):
    """Curves over the same axes; `better` is what a reader should know of the direction, such as "higher is better"."""

    title: str
    across: str
    better: str
    lines: Sequence[Line]


def plot_lines(panels: Sequence[LinePanel]) -> Figure:
    """One panel beside the other; colour and marker for each method, dashed without the lens, solid with it (Fig. 6)."""
    if not panels or not any(panel.lines for panel in panels):
        raise ValueError("there is no curve to draw")
    methods = list(dict.fromkeys(line.method for panel in panels for line in panel.lines))
    styles = {name: style_of(i) for i, name in enumerate(methods)}
    rows = -(-(len(methods) + 2) // max(1, 2 * len(panels)))
    figure = Figure(figsize=(4.2 * len(panels), 3.4 + 0.22 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), i)
        for line in panel.lines:
            colour, marker = styles[line.method]
            axes.plot(
                line.x, line.y, "-" if line.refined else "--", color=colour, linewidth=1.6 if line.refined else 1.2,
                marker=marker, markersize=4, markevery=max(1, len(line.x) // 10),
            )  # fmt: skip
        axes.set_title(f"{panel.title} ({panel.better})", fontsize=10)
        axes.set_xlabel(panel.across)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.7)
        axes.set_axisbelow(True)
    handles = [Line2D([], [], color=c, marker=m, markersize=4, label=name) for name, (c, m) in styles.items()]
    handles += [
        Line2D([], [], color="0.3", linestyle="--", label="without the lens"),
        Line2D([], [], color="0.3", linestyle="-", label="with it"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(panels), fontsize=8.5, frameon=False)
    return figure


class Bar(NamedTuple):
    """A measure of one method, without and with the lens, and standard deviations (NaN draws none)."""

    method: str
    values: Sequence[float]  # one for each variant
    deviations: Sequence[float]


def plot_bars(measures: Sequence[tuple[str, Sequence[Bar]]], variants: Sequence[str]) -> Figure:
    """A panel for each measure, a group of bars for each method, a bar for each of the `variants`."""
    if not measures or not measures[0][1]:
        raise ValueError("there is no bar to draw")
    tall = 0.9 + 0.2 * len(measures[0][1]) * (len(variants) + 0.8)
    figure = Figure(figsize=(1.2 + 2.6 * len(measures), tall + 0.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    shades = ["0.75", RUN_COLOURS[0], *RUN_COLOURS[1:]]
    wide = 0.8 / len(variants)
    first = None
    for i, (title, bars) in enumerate(measures, start=1):
        axes = figure.add_subplot(1, len(measures), i, sharey=first)
        first = first or axes
        for v, variant in enumerate(variants):
            places = [row + (v - (len(variants) - 1) / 2) * wide for row in range(len(bars))]
            axes.barh(
                places, [bar.values[v] for bar in bars], wide * 0.92, color=shades[v % len(shades)], label=variant,
                xerr=[bar.deviations[v] for bar in bars], error_kw={"linewidth": 0.9, "ecolor": "0.2"},
            )  # fmt: skip
        axes.set_yticks(range(len(bars)), [bar.method for bar in bars])
        axes.tick_params(axis="y", labelleft=i == 1, length=0)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    assert first is not None
    first.invert_yaxis()
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(variants)), fontsize=8.5, frameon=False)
    return figure
