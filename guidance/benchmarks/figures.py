"""The figure of each benchmark, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from guidance.benchmarks.class_maps import BASE
from guidance.benchmarks.judges import Benchmark
from guidance.benchmarks.summary import Runs, by_fraction, cell, mean_curve, names_of
from guidance.pictures.benchmarks import Bar, Line, LinePanel, plot_bars, plot_lines

BETTER = {True: "higher is better", False: "lower is better"}


def _bars(runs: Runs, benchmark: Benchmark) -> Figure:
    variants = names_of(runs, "variant")
    measures = []
    for column, higher in benchmark.measures.items():
        bars = []
        for method in names_of(runs, "method"):
            cells = [cell(runs, method, variant, column) for variant in variants]
            bars.append(Bar(method, [c.mean for c in cells], [c.deviation for c in cells]))
        measures.append((f"{column} {'↑' if higher else '↓'}", bars))
    return plot_bars(measures, [variant or "without" for variant in variants])


def _curves(runs: Runs, benchmark: Benchmark) -> Figure:
    panels = []
    for name, column in zip(benchmark.measures, benchmark.curves, strict=True):
        lines = []
        for method in names_of(runs, "method"):
            for variant in names_of(runs, "variant"):
                y = mean_curve(runs, method, variant, column)
                lines.append(Line(method, variant != BASE, [i / max(1, len(y) - 1) for i in range(len(y))], y))
        panels.append(LinePanel(f"{name}: probability", "share of the pixels", BETTER[benchmark.measures[name]], lines))
    return plot_lines(panels)


def _fractions(runs: Runs, benchmark: Benchmark) -> Figure:
    return plot_lines([
        LinePanel(column, "share of the layers drawn anew", BETTER[higher], [
            Line(method, variant != BASE, *by_fraction(runs, method, variant, column))
            for method in names_of(runs, "method") for variant in names_of(runs, "variant")
        ])
        for column, higher in benchmark.measures.items()
    ])  # fmt: skip


FIGURES: Mapping[str, Callable[[Runs, Benchmark], Figure]] = {
    "localization": _bars, "insertion_deletion": _curves, "randomization": _fractions,
}  # fmt: skip
