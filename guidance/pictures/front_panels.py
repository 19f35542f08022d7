"""Fronts of groups beside a baseline, a panel for each net and depth, as in Figs. 5 to 8 of Rao et al. 2023."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from guidance.evaluation.metrics import metric_of, oriented
from guidance.pictures.plots import style_of

BETTER, WORSE = "#DDF0E3", "#E4E4E4"  # where the baseline is beaten, and where it wins
PANEL = 3.1  # inches, without the legend

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrontSeries:
    """A group in a panel. Points [N, 2] have the values of the two metrics of the panel.

    `style`: number of its colour and marker; the same label has the same one in every panel. `surfaces`: corners [K, 2] of what
    the best seed, the median and all seeds attain, or of one seed only; in the order of the first metric, from worse to better.
    """

    label: str
    style: int
    epochs: Array
    front: Array
    surfaces: tuple[Array, ...]


@dataclass(frozen=True)
class Cross:
    """A baseline: means of the two metrics, and their standard deviations over seeds (NaN of one)."""

    x: float
    y: float
    x_deviation: float = math.nan
    y_deviation: float = math.nan


@dataclass(frozen=True)
class FrontPanel:
    """Two metrics, the first to the right. `column`, `row`: what stands above and left of the panels, where any does."""

    metrics: tuple[str, str]
    series: tuple[FrontSeries, ...]
    baseline: Cross | None = None
    column: str = ""
    row: str = ""


def plot_fronts(panels: Sequence[Sequence[FrontPanel | None]], *, title: str = "") -> Figure:
    """Rows of panels (None leaves a gap): better is always to the right and up, also where lower values are better.

    Faint dots are epochs; filled marks are the front over all seeds; the line bounds what the median seed attains (the only
    one where there is one), and the band reaches from what all seeds attain to what the best does. The cross is the
    baseline; what is better in both metrics lies on green (hatched), what is worse in both on grey. ValueError without a panel.
    """
    shown = [panel for row in panels for panel in row if panel is not None]
    if not shown:
        raise ValueError("there is no panel to draw; give one group with a front or more")
    columns = max(map(len, panels))
    figure = Figure(figsize=(1, 1), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    width = max(4.6, PANEL * columns + (0.3 if any(panel.row for panel in shown) else 0.0))
    handles = _handles(shown)
    in_row, lines = _legend_shape([str(handle.get_label()) for handle in handles], width)
    figure.set_size_inches(width, PANEL * 0.92 * len(panels) + 0.2 + 0.19 * lines + (0.3 if title else 0.0))
    figure.legend(handles=handles, loc="outside lower center", ncols=in_row, fontsize=8.5, frameon=False)
    if title:
        figure.suptitle(title, size=10.5)
    for number, row in enumerate(panels):
        for place, panel in enumerate(row):
            if panel is not None:
                _draw(figure.add_subplot(len(panels), columns, number * columns + place + 1), panel)
    return figure


def _draw(axes: Axes, panel: FrontPanel) -> None:
    for series in panel.series:
        colour, marker = style_of(series.style)
        axes.scatter(
            series.epochs[:, 0],
            series.epochs[:, 1],
            s=10,
            marker=marker,
            color=colour,
            alpha=0.22,
            linewidth=0,
            zorder=2,
        )
        axes.scatter(
            series.front[:, 0],
            series.front[:, 1],
            s=34,
            marker=marker,
            color=colour,
            edgecolor="black",
            linewidth=0.6,
            zorder=5,
        )
    if panel.baseline is not None:
        cross = panel.baseline
        axes.errorbar(
            cross.x, cross.y, xerr=_bar(cross.x_deviation), yerr=_bar(cross.y_deviation), fmt="none", ecolor="black",
            elinewidth=1.0, capsize=2.5, zorder=6,
        )  # fmt: skip
        axes.plot(cross.x, cross.y, marker="X", markersize=9.5, color="white", markeredgecolor="black", zorder=7)
    _style(axes, panel)
    for series in panel.series:
        _draw_surfaces(axes, series, panel.metrics)
    if panel.baseline is not None:
        _draw_regions(axes, panel.baseline)


def _bar(deviation: float) -> float | None:
    return None if math.isnan(deviation) else deviation


def _style(axes: Axes, panel: FrontPanel) -> None:
    """Labels, direction and limits of the axes; the limits stay from here on."""
    rows = [metric_of(name) for name in panel.metrics]
    labels = [f"{row.label}{' (lower is better)' if row.higher_is_better is False else ''}" for row in rows]
    axes.set_xlabel(labels[0], size=9.5)
    axes.set_ylabel(f"{panel.row}\n{labels[1]}" if panel.row else labels[1], size=9.5)
    axes.set_title(panel.column, size=10)
    axes.xaxis.set_inverted(rows[0].higher_is_better is False)
    axes.yaxis.set_inverted(rows[1].higher_is_better is False)
    axes.tick_params(labelsize=8.5)
    axes.margins(0.07)
    axes.locator_params(nbins=5)
    axes.grid(color="0.85", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())


def _draw_regions(axes: Axes, cross: Cross) -> None:
    """The part of the panel that is better than the baseline in both metrics, and the part that is worse in both."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for x, y, colour, hatch in ((right, high, BETTER, "////"), (left, low, WORSE, "")):
        axes.add_patch(
            Rectangle((cross.x, cross.y), x - cross.x, y - cross.y, facecolor=colour, edgecolor="#B5DDC4", hatch=hatch,
                      linewidth=0, zorder=0)
        )  # fmt: skip


def _draw_surfaces(axes: Axes, series: FrontSeries, metrics: tuple[str, str]) -> None:
    colour, _ = style_of(series.style)
    corner = axes.get_xlim()[0], axes.get_ylim()[0]
    bounds = [_boundary(surface, corner) for surface in series.surfaces if len(surface)]
    if not bounds:
        return
    if len(series.surfaces) == 3:
        inner = bounds[2] if len(bounds) == 3 else np.array([corner])
        axes.fill(*np.concatenate([bounds[0], inner[::-1]]).T, color=colour, alpha=0.13, linewidth=0, zorder=1)
    middle = bounds[min(1, len(bounds) - 1)]
    axes.plot(*middle.T, color=colour, linewidth=1.3, linestyle=_DASHES[series.style % len(_DASHES)], zorder=3)


_DASHES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (5, 1.5, 1.5, 1.5)),
)


def _boundary(corners: Array, worst: tuple[float, float]) -> Array:
    """The stairs around what lies below the corners in both metrics: from the worst first metric to the worst second one."""
    x = np.concatenate([[worst[0]], np.repeat(corners[:, 0], 2)])
    y = np.concatenate([np.repeat(corners[:, 1], 2), [worst[1]]])
    return np.stack([x, y], axis=1)


def turned(points: Array, metrics: Sequence[str]) -> Array:
    """Points [N, D] so that larger is better; the same again turns them back."""
    rows = [[oriented(name, float(value)) for name, value in zip(metrics, point, strict=True)] for point in points]
    return np.array(rows, dtype=np.float64).reshape(-1, len(metrics))


def _handles(panels: Iterable[FrontPanel]) -> list[Line2D | Patch]:
    panels = list(panels)
    styles = {series.label: series.style for panel in panels for series in panel.series}
    handles: list[Line2D | Patch] = []
    for label, style in sorted(styles.items(), key=lambda item: item[1]):
        colour, marker = style_of(style)
        dashes = _DASHES[style % len(_DASHES)]
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle=dashes, markeredgecolor="black", label=label)
        )
    seeds = any(len(series.surfaces) == 3 for panel in panels for series in panel.series)
    if seeds:
        handles.append(Patch(color="0.75", label="line: median of seeds; band: all to best"))
    if any(panel.baseline is not None for panel in panels):
        handles.append(
            Line2D(
                [], [], color="white", marker="X", markersize=9, markeredgecolor="black", linestyle="", label="baseline"
            )
        )
        handles.append(
            Patch(facecolor=BETTER, edgecolor="#B5DDC4", hatch="////", linewidth=0, label="dominates the baseline")
        )
        handles.append(Patch(facecolor=WORSE, linewidth=0, label="dominated by the baseline"))
    return handles


def _legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """How many entries fit beside each other in `width` inches, and the number of lines."""
    # About 0.066 inches for a character and 0.55 for the mark and the gap.
    in_row = max(1, min(len(labels), int(width / (0.55 + 0.066 * max(map(len, labels))))))
    return in_row, -(-len(labels) // in_row)
