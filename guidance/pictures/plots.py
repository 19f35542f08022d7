"""Pareto fronts, EPG by size and scores of single samples as figures, drawn with Agg; no pyplot, no display."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from guidance.evaluation.metrics import metric_of, oriented
from guidance.evaluation.size_bias import SizeBin
from guidance.runs.pareto import Candidate, non_dominated

RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_front(
    runs: Mapping[str, Sequence[Candidate]],
    front: Collection[tuple[str, str]],
    metrics: Sequence[str],
    *,
    knee: tuple[str, str] | None = None,
) -> Figure:
    """Candidates of several runs over each pair of metrics (a single metric: over the order of the candidates).

    One colour and marker per run. The members of the front, given as (run, name), are filled, the others faint; `knee`
    is ringed. A dotted line bounds what the members reach in the two metrics shown. Candidates without a finite value
    are left out of a plot.
    """
    if not metrics or not runs:
        raise ValueError("a front is drawn for one run or more, over one metric or more")
    pairs: list[tuple[str, ...]] = [*combinations(metrics, 2)] or [tuple(metrics)]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    width = max(4.4, 3.5 * columns)
    handles = _legend_handles(runs, set(front), knee)
    longest = max(len(str(handle.get_label())) for handle in handles)
    # About 0.075 inches for a character and 0.5 for the marker and the gap.
    in_row = max(1, min(len(handles), int(width / (0.5 + 0.075 * longest))))
    height = 3.1 * rows + 0.2 + 0.19 * -(-len(handles) // in_row)
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=in_row, fontsize=8.5, frameon=False)
    for number, pair in enumerate(pairs, start=1):
        _draw_pair(figure.add_subplot(rows, columns, number), runs, set(front), pair, knee)
    return figure


def plot_samples(
    baseline: Sequence[float],
    method: Sequence[float],
    score: str,
    *,
    names: tuple[str, str] = ("baseline", "method"),
) -> Figure:
    """One point per sample: its score by the baseline (x) and by the method (y), the same sample at the same place.

    Points above the diagonal, where the method scores higher, are in another colour than those below (AIM, Fig. 5); the
    title counts them, and a cross marks the two means. `names`: of the axes. Raises ValueError for no samples, for
    different numbers of them, and for scores that are not finite.
    """
    x, y = np.asarray(baseline, dtype=float), np.asarray(method, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not len(x) or not (np.isfinite(x) & np.isfinite(y)).all():
        raise ValueError(
            f"expected as many finite scores of the baseline as of the method, one or more; got {len(x)} and {len(y)}"
        )
    figure = Figure(figsize=(4.6, 4.9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = min(0.0, x.min(), y.min()), max(1.0, x.max(), y.max())
    axes.plot([low, high], [low, high], color="0.35", linewidth=0.9, zorder=1)
    groups = (("higher", y > x, RUN_COLOURS[0]), ("lower", y < x, RUN_COLOURS[1]), ("equal", y == x, RUN_COLOURS[6]))
    opacity = min(0.8, max(0.15, 20 / len(x) ** 0.5))
    for name, chosen, colour in groups:
        label = f"{name}: {int(chosen.sum())}"
        axes.scatter(x[chosen], y[chosen], s=14, color=colour, alpha=opacity, linewidth=0, label=label, zorder=2)
    label = f"means: {x.mean():.3f}, {y.mean():.3f}"
    axes.scatter([x.mean()], [y.mean()], s=130, marker="P", color="black", edgecolor="white", label=label, zorder=3)
    title, worse = metric_of(score).label, metric_of(score).higher_is_better is False
    share = f"{100 * float((y > x).mean()):.1f} % of {len(x)} samples"
    axes.set_title(f"{title} higher for {share}{', lower is better' if worse else ''}", size=10)
    axes.set(xlabel=f"{title} of {names[0]}", ylabel=f"{title} of {names[1]}", aspect="equal")
    axes.tick_params(labelsize=8.5)
    axes.margins(0.03)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)  # type: ignore[union-attr]
    return figure


def plot_size_bins(bins: Sequence[SizeBin]) -> Figure:
    """Mean EPG against the share of the image that the mask covers, beside what a uniform map would reach.

    One mark for each bin that has pairs, with their number; the shaded gain over chance is what the size does not explain.
    """
    if not any(b.pairs for b in bins):
        raise ValueError("no (image, class) pair has a region, so there is nothing to draw by size")
    figure = Figure(figsize=(5.4, 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style_axes(axes, "share of the image that the mask covers, in %", "mean EPG")
    places, epg, chance = range(len(bins)), [b.epg for b in bins], [b.chance for b in bins]  # NaN leaves a gap
    axes.fill_between(places, epg, chance, color=RUN_COLOURS[0], alpha=0.12, linewidth=0)
    axes.plot(places, epg, color=RUN_COLOURS[0], marker="o", label="EPG")
    axes.plot(places, chance, color="0.35", marker="_", markersize=10, linestyle="--", label="chance (a uniform map)")
    labels = [f"{100 * b.low:g} to {100 * b.high:g}\n{b.pairs}" for b in bins]
    axes.set_xticks(places, labels)
    axes.annotate("pairs", (0, 0), (-8, -17.5), xycoords="axes fraction", textcoords="offset points", size=8.5,
                  ha="right", va="top")  # fmt: skip
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    return figure


def _style_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, size=10)
    axes.set_ylabel(ylabel, size=10)
    axes.tick_params(labelsize=8.5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_pair(
    axes: Axes,
    runs: Mapping[str, Sequence[Candidate]],
    front: set[tuple[str, str]],
    metrics: Sequence[str],
    knee: tuple[str, str] | None,
) -> None:
    members: list[tuple[float, float]] = []
    for style, (run, candidates) in enumerate(runs.items()):
        colour, marker = style_of(style)
        points = {candidate.name: _point(candidate, order, metrics) for order, candidate in enumerate(candidates, 1)}
        points = {name: point for name, point in points.items() if np.isfinite(point).all()}
        kept = [point for name, point in points.items() if (run, name) in front]
        others = [point for name, point in points.items() if (run, name) not in front]
        axes.scatter(*_columns(others), s=22, marker=marker, color=colour, alpha=0.3, linewidth=0, zorder=2)
        axes.scatter(*_columns(kept), s=42, marker=marker, color=colour, edgecolor="black", linewidth=0.6, zorder=3)
        ring = [point for name, point in points.items() if (run, name) == knee]
        axes.scatter(*_columns(ring), s=150, facecolor="none", edgecolor="black", linewidth=1.1, zorder=4)
        members += kept
    turned = (
        [[oriented(m, v) for m, v in zip(metrics, point, strict=True)] for point in members]
        if len(metrics) == 2
        else []
    )
    reached = [members[i] for i in sorted(non_dominated(turned, 0.0), key=lambda i: turned[i])]
    axes.plot(*_columns(reached), color="0.45", linewidth=0.9, linestyle=":", drawstyle="steps-pre", zorder=1)
    shown = [metric_of(m) for m in metrics]
    lower = [row.higher_is_better is False for row in shown]
    labels = [f"{row.label}{' (lower is better)' if low else ''}" for row, low in zip(shown, lower, strict=True)]
    _style_axes(axes, labels[0] if len(labels) == 2 else "checkpoint", labels[-1])
    # Better is always to the right and up.
    axes.xaxis.set_inverted(len(metrics) == 2 and lower[0])
    axes.yaxis.set_inverted(lower[-1])
    axes.margins(0.08)
    axes.locator_params(nbins=5)


def _point(candidate: Candidate, order: int, metrics: Sequence[str]) -> tuple[float, float]:
    values = [float(candidate.values.get(metric, math.nan)) for metric in metrics]
    return (values[0], values[1]) if len(values) == 2 else (float(order), values[0])


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def style_of(number: int) -> tuple[str, str]:
    """Colour and marker of the series of this number: both differ, so that either is enough."""
    shift = number // len(RUN_COLOURS)
    return RUN_COLOURS[number % len(RUN_COLOURS)], RUN_MARKERS[(number + shift) % len(RUN_MARKERS)]


def _legend_handles(
    runs: Mapping[str, Sequence[Candidate]], front: set[tuple[str, str]], knee: tuple[str, str] | None
) -> list[Line2D]:
    handles = []
    for style, (run, candidates) in enumerate(runs.items()):
        colour, marker = style_of(style)
        on_front = sum((run, candidate.name) in front for candidate in candidates)
        label = f"{run} ({on_front} of {len(candidates)} on the front)"
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", markeredgecolor="black", label=label))
    if knee is not None:
        ring = Line2D(
            [], [], color="none", marker="o", markersize=11, markeredgecolor="black", linestyle="", label="knee"
        )
        handles.append(ring)
    return handles
