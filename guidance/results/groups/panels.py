"""The panels in which fronts of groups are drawn: by net and depth where the groups differ in them, else by pair of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from guidance.pictures.front_panels import Cross, FrontPanel, FrontSeries, turned
from guidance.results.groups.attainment import attainment_surface, median_count
from guidance.results.groups.baseline import Baseline
from guidance.results.groups.epochs import ExperimentRuns, RunEpoch
from guidance.results.groups.group_fronts import GroupFront
from guidance.results.groups.traits import Traits, depth_order, traits_of

Pair = tuple[str, str]


def front_panels(
    experiment: ExperimentRuns, fronts: Mapping[str, GroupFront], baselines: Sequence[Baseline]
) -> list[list[FrontPanel | None]]:
    """Rows of panels, for `pictures.front_panels.plot_fronts`; the groups of baselines are crosses only, unless alone.

    Where the groups differ in net: a column for each net and a row for each guided depth; where they differ in depth alone, a
    column for each; of the first metric and each of the others (Figs. 5 to 8 of Rao et al. 2023), one colour per loss, or
    per group where two have the same. Else one row with a panel for each pair of metrics. A baseline stands in the panels of
    its own net, where it is explained as the groups are. ValueError for a single metric.
    """
    metrics = next(iter(fronts.values())).selection.metrics
    if len(metrics) < 2:
        raise ValueError(f"a front over {metrics[0]} alone is one value, and no picture; give two --metrics or more")
    drawn = {name: front for name, front in fronts.items() if not front.group.baseline} or dict(fronts)
    traits = {name: traits_of(experiment.of(name)) for name in fronts}
    cells = {(traits[name].net, traits[name].depth) for name in drawn}
    if len(cells) == 1 or any(None in cell for cell in cells):
        labels = {name: front.group.label for name, front in drawn.items()}
        pairs: list[Pair] = list(combinations(metrics, 2))
        return [[_panel(drawn, pair, _styles(labels), _cross(baselines, traits, None, pair)) for pair in pairs]]
    nets = list(dict.fromkeys(str(traits[name].net) for name in drawn))
    depths = sorted({str(traits[name].depth) for name in drawn}, key=depth_order)
    styles = _styles(_labels(drawn, traits))
    places = [[(net, depth) for depth in depths] for net in nets]
    if len(nets) > 1:
        places = [[(net, depth) for net in nets] for depth in depths]
    rows: list[list[FrontPanel | None]] = []
    for pair in [(metrics[0], other) for other in metrics[1:]]:
        for across in places:
            row: list[FrontPanel | None] = []
            for net, depth in across:
                inside = {n: f for n, f in drawn.items() if (traits[n].net, traits[n].depth) == (net, depth)}
                column, side = (net, depth if len(depths) > 1 else "") if len(nets) > 1 else (depth, "")
                cross = _cross(baselines, traits, traits[next(iter(inside))], pair) if inside else None
                row.append(_panel(inside, pair, styles, cross, titles=(column, side)) if inside else None)
            rows.append(row)
    return rows


def _labels(drawn: Mapping[str, GroupFront], traits: Mapping[str, Traits]) -> dict[str, str]:
    """The loss of each group; its own label where a panel would have two of the same."""
    places = [(traits[name].net, traits[name].depth, traits[name].loss) for name in drawn]
    if len(set(places)) < len(places) or any(loss is None for *_, loss in places):
        return {name: front.group.label for name, front in drawn.items()}
    return {name: str(traits[name].loss) for name in drawn}


def _styles(labels: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Name of each group -> its label and the number of its style; one number per label."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels.values()))}
    return {name: (label, numbers[label]) for name, label in labels.items()}


def _panel(
    drawn: Mapping[str, GroupFront],
    pair: Pair,
    styles: Mapping[str, tuple[str, int]],
    cross: Cross | None,
    *,
    titles: tuple[str, str] = ("", ""),
) -> FrontPanel:
    series = []
    for name, front in drawn.items():
        label, style = styles[name]
        epochs, members = _values(front, front.epochs, pair), _values(front, front.members, pair)
        series.append(FrontSeries(label, style, epochs, members, surfaces(front, pair)))
    return FrontPanel(pair, tuple(series), cross, *titles)


def surfaces(front: GroupFront, pair: Pair) -> tuple[NDArray[np.float64], ...]:
    """Corners [K, 2] of what the best seed, the median and all seeds attain in two metrics; of the one where there is one.

    In the order of the first metric, from worse to better.
    """
    seeds = [turned(_values(front, members, pair), pair) for members in front.seeds.values()]
    levels = [1, median_count(len(seeds)), len(seeds)] if len(seeds) > 1 else [1]
    return tuple(turned(attainment_surface(seeds, level), pair) for level in levels)


def _values(front: GroupFront, epochs: Sequence[RunEpoch], pair: Pair) -> NDArray[np.float64]:
    split = front.selection.split
    return np.array([[epoch.metrics[split][name] for name in pair] for epoch in epochs], dtype=np.float64).reshape(
        -1, 2
    )


def _cross(
    baselines: Sequence[Baseline], traits: Mapping[str, Traits], panel: Traits | None, pair: Pair
) -> Cross | None:
    """The first baseline of the net of the panel whose maps are those of its groups; any where a panel holds all groups."""
    for baseline in baselines:
        own = traits[baseline.group.name]
        if panel is None or (own.net, own.evaluated) == (panel.net, panel.evaluated):
            x, y = (baseline.at(metric) for metric in pair)
            return Cross(x.mean, y.mean, x.deviation, y.deviation)
    return None
