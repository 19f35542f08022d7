"""Metrics against a setting that was varied, with their spread over seeds, as in Figs. 8, 10 and 12 of Rao et al. 2023."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from guidance.pictures.plots import style_of


@dataclass(frozen=True)
class Curve:
    """Means and standard deviations over seeds at places of the axis; a deviation of one seed is NaN. `style`: its number."""

    label: str
    style: int
    places: Sequence[float]
    means: Sequence[float]
    deviations: Sequence[float]


@dataclass(frozen=True)
class CurvePanel:
    """One quantity. `baseline`: (mean, standard deviation) of what the curves are compared with."""

    quantity: str
    curves: Sequence[Curve]
    baseline: tuple[float, float] | None = None


def plot_curves(
    panels: Sequence[CurvePanel], setting: str, *, ticks: Sequence[tuple[float, str]], title: str = ""
) -> Figure:
    """A panel for each quantity, side by side, against the places of `setting`, which `ticks` name.

    Bars are standard deviations over seeds; groups are moved apart a little, so that their bars do not hide each other. The
    baseline is a dotted line, with a band of its deviation.
    """
    if not panels or not any(panel.curves for panel in panels):
        raise ValueError("there is no curve to draw; give one quantity and one group or more")
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = max(4.6, 3.2 * columns)
    handles = _handles(panels)
    longest = max(len(str(handle.get_label())) for handle in handles)
    in_row = max(1, min(len(handles), int(width / (0.55 + 0.07 * longest))))
    height = 2.9 * rows + 0.2 + 0.19 * -(-len(handles) // in_row) + (0.3 if title else 0.0)
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=in_row, fontsize=8.5, frameon=False)
    if title:
        figure.suptitle(title, size=10.5)
    for number, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(rows, columns, number), panel, setting, ticks)
    return figure


def _draw(axes: Axes, panel: CurvePanel, setting: str, ticks: Sequence[tuple[float, str]]) -> None:
    places = [place for place, _ in ticks]
    span = (max(places) - min(places)) or 1.0
    for number, curve in enumerate(panel.curves):
        colour, marker = style_of(curve.style)
        shift = 0.012 * span * (number - (len(panel.curves) - 1) / 2)
        errors = [0.0 if math.isnan(deviation) else deviation for deviation in curve.deviations]
        axes.errorbar(
            np.asarray(curve.places, dtype=np.float64) + shift, curve.means, yerr=errors, color=colour, marker=marker,
            markeredgecolor="black", markeredgewidth=0.6, linewidth=1.3, elinewidth=1.0, capsize=2.5, zorder=3,
        )  # fmt: skip
    if panel.baseline is not None and not math.isnan(panel.baseline[0]):
        mean, deviation = panel.baseline
        axes.axhline(mean, color="0.25", linewidth=1.1, linestyle=":", zorder=1)
        if not math.isnan(deviation):
            axes.axhspan(mean - deviation, mean + deviation, color="0.88", linewidth=0, zorder=0)
    axes.set_xlabel(setting, size=9.5)
    axes.set_ylabel(panel.quantity, size=9.5)
    crowded = sum(len(label) for _, label in ticks) > 34
    axes.set_xticks(
        places, [label for _, label in ticks], rotation=30 if crowded else 0, ha="right" if crowded else "center"
    )
    axes.tick_params(labelsize=8.5)
    axes.set_xlim(min(places) - 0.08 * span, max(places) + 0.08 * span)
    axes.margins(y=0.1)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _handles(panels: Sequence[CurvePanel]) -> list[Line2D]:
    styles = {curve.label: curve.style for panel in panels for curve in panel.curves}
    handles = []
    for label, style in sorted(styles.items(), key=lambda item: item[1]):
        colour, marker = style_of(style)
        handles.append(Line2D([], [], color=colour, marker=marker, markeredgecolor="black", label=label))
    if any(panel.baseline is not None for panel in panels):
        handles.append(Line2D([], [], color="0.25", linestyle=":", label="baseline (band: s.d. over seeds)"))
    return handles
