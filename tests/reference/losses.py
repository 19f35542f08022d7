"""Slow versions of every localisation loss, of one map [h, w] and one mask [H, W]: loops, straight from the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.reference.maps import as_map, cells, divided_by_peak, positive_energy, upsample
from tests.reference.scores import epg


def energy(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    return 1 - epg(upsample(a, len(mask), len(mask[0])), mask)


def energy_star(a: Any, mask: Any, alpha: float = 0.5, area: str = "pixels") -> float:
    mask = as_map(mask)
    size = float(max(sum(mask[i][j] for i, j in cells(mask)), 1))
    if area == "fraction":
        size /= len(mask) * len(mask[0])
    return 1 - epg(upsample(a, len(mask), len(mask[0])), mask) / size**alpha


def l1(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(positive_energy(as_map(a))), len(mask), len(mask[0]))
    return sum(abs(u[i][j] - mask[i][j]) for i, j in cells(u)) / (len(mask) * len(mask[0]))


def ppce(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(positive_energy(as_map(a))), len(mask), len(mask[0]))
    inside = [u[i][j] for i, j in cells(u) if mask[i][j]]
    return sum(-math.log(min(max(v, 1e-6), 1.0)) for v in inside) / len(inside) if inside else 0.0


def rrr(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(as_map(a)), len(mask), len(mask[0]))
    return sum(u[i][j] ** 2 for i, j in cells(u) if not mask[i][j])


LOSSES: dict[str, Callable[[Any, Any], float]] = {
    "energy": energy, "l1": l1, "ppce": ppce, "rrr": rrr, "energy_star": energy_star,
}  # fmt: skip
