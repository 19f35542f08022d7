"""What launch/judge.py has written of nets, as claims ask for it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from guidance.evaluation.statistics import mean
from guidance.results.claims.values import NET, NO_GROUP, Quantity
from guidance.results.claims.verdicts import Values

Line = Mapping[str, str]  # of a benchmark's CSV: one map of one net
Judged = Mapping[str, Sequence[Line]]  # group -> its lines


def tables_of(folder: Path) -> list[Path]:
    """The CSV of each benchmark in a folder of launch/judge.py; none in any other folder."""
    return [path for path in sorted(folder.glob("*.csv")) if any(path.with_suffix("").glob("*/settings.json"))]


def read_judged(folder: Path) -> Judged:
    """The maps that a folder of launch/judge.py holds, by what claims call them; empty for any other folder.

    A group is a benchmark with one variant of the maps: "localization" is without the lens, "localization_lens" with it,
    "localization_1, 2, 50" with these inverse temperatures.
    """
    found: dict[str, list[Line]] = {}
    for path in tables_of(folder):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                variant = line["variant"]
                found.setdefault(f"{path.stem}_{variant}" if variant else path.stem, []).append(line)
    return found


def measure_judged(judged: Judged, group: str, quantity: Quantity) -> Values:
    """For each net, as one seed: the mean over the methods of the mean over their maps.

    `quantity.where` may hold "methods", the names of those that count, at any depth; without it all do. Maps without a number
    (one without any positive attribution has no RA) do not count, as in the benchmark's own table.
    """
    if group not in judged or quantity.at != NET:
        return Values({}, (f"{NO_GROUP}{group}",))
    wanted = quantity.where.get("methods")
    nets: dict[str, dict[str, list[float]]] = {}
    for line in judged[group]:
        if wanted is None or line["method"].partition("@")[0] in wanted:
            values = nets.setdefault(line["net"], {}).setdefault(line["method"], [])
            number = float(line.get(quantity.metric) or "nan")
            values += [number] if math.isfinite(number) else []
    if not nets:
        return Values({}, (f"none of {', '.join(wanted or ())} was judged",))
    return Values({seed: mean([mean(v) for v in methods.values() if v]) for seed, methods in enumerate(nets.values())})
