"""Depths for a net of which nobody said where it shall be explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

from guidance.models.wrapping.grids import Grid, grid_of
from guidance.models.wrapping.tracing import NetGraph
from guidance.models.wrapping.trial import Trial

QUARTERS = (1, 2, 3, 4)


def suggested_depths(trial: Trial, trace: NetGraph | None) -> dict[str, str]:
    """Depth -> layer: the last layer of each resolution that everything passes through, as mid1, mid2, ... and final.

    Layers deep inside others are passed over where there are some nearer to the surface. A net that keeps one resolution gets
    the layers after a quarter, half and three quarters of its blocks, and the last one; where it has tokens that are no patch,
    which alone may be read behind the last block, the norm with which that block begins. ValueError where no layer returns a
    grid.
    """
    grids = _grids(trial, trial.layers if trace is None else _cuts(trace))
    resolutions: dict[tuple[int, int], list[str]] = {}
    for name, grid in grids.items():
        resolutions.setdefault((grid.height, grid.width), []).append(name)
    order = list(grids)
    names = sorted(_without_deep(map(_last_on_surface, resolutions.values())), key=order.index)
    if len(names) == 1:
        names = _quarters(trial, grids, names[0])
    if not names:
        raise ValueError(
            "no layer of this net returns a grid of more than one cell through which everything passes; name some in `depths`"
        )
    *others, final = names
    return {f"mid{i + 1}": name for i, name in enumerate(others)} | {"final": final}


def _cuts(trace: NetGraph) -> list[str]:
    """Names of the layers through which everything passes, in order."""
    cuts = set(trace.cuts())
    return [name for name, node in trace.layers.items() if node in cuts]


def _grids(trial: Trial, names: Iterable[str]) -> dict[str, Grid]:
    """Those of the layers that return more than one cell."""
    shapes = {name: trial.layers[name].shape or () for name in names if name in trial.layers}
    # Windows of a grid are rows of their own, which no image has alone.
    found = {name: grid_of(shape) for name, shape in shapes.items() if shape[:1] == (len(trial.images),)}
    square = trial.images.shape[2] == trial.images.shape[3]
    return {
        name: grid
        for name, grid in found.items()
        if grid is not None and grid.height * grid.width > 1 and (grid.height == grid.width or not square)
    }


def _last_on_surface(names: Sequence[str]) -> str:
    surface = min(_level(name) for name in names)
    return [name for name in names if _level(name) == surface][-1]


def _without_deep(names: Iterable[str]) -> list[str]:
    """Those that are about as deep in the net as most: what is far deeper is a rearrangement inside a block."""
    found = list(names)
    usual = median_low([_level(name) for name in found] or [0])
    return [name for name in found if _level(name) <= usual + 1]


def _level(name: str) -> int:
    return name.count(".")


def _quarters(trial: Trial, grids: Mapping[str, Grid], last: str) -> list[str]:
    """Of the longest row of blocks that everything passes through, or of all layers; `last` alone where there is no row."""
    blocks = _longest_row(grids) or _longest_row(_grids(trial, trial.layers))
    if not blocks:
        return [last]
    *chosen, final = [blocks[round(len(blocks) * quarter / 4) - 1] for quarter in QUARTERS]
    if not grids[last].extra:
        return [*chosen, last]
    first = next((name for name in trial.layers if name.rpartition(".")[0] == final), final)
    return [*chosen, first if _grids(trial, [first]) else final]


def _longest_row(names: Iterable[str]) -> list[str]:
    """The most layers in one container; none where no container holds four."""
    rows: dict[str, list[str]] = {}
    for name in names:
        rows.setdefault(name.rpartition(".")[0], []).append(name)
    longest = max((row for parent, row in rows.items() if parent), key=len, default=[])
    return longest if len(longest) >= len(QUARTERS) else []
