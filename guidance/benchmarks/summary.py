"""Tables of benchmarks in the paper's form: the value under the lens, and by how much it is above that without."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from guidance.benchmarks.class_maps import BASE
from guidance.benchmarks.judges import Benchmark
from guidance.benchmarks.running import Row
from guidance.evaluation.statistics import Spread, mean

Runs = Mapping[str, Sequence[Row]]  # name of a net -> its rows


class Measured(NamedTuple):
    """A measure of a method and variant, over the nets that were judged."""

    mean: float
    deviation: float  # over the nets (n - 1); NaN for one net
    nets: int
    maps: int  # that have the measure, of all nets


def cell(runs: Runs, method: str, variant: str, column: str) -> Measured:
    """Mean over the nets of the mean over their maps."""
    numbers = [_numbers(_of(rows, method, variant), column) for rows in runs.values()]
    nets = Spread.over(map(mean, numbers))
    return Measured(nets.mean, nets.deviation, nets.seeds, sum(map(len, numbers)))


def _of(rows: Sequence[Row], method: str, variant: str) -> list[Row]:
    return [row for row in rows if row["method"] == method and row["variant"] == variant]


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    """Of the rows that have one."""
    return [row[column] for row in rows if row.get(column) is not None and math.isfinite(row[column])]


def improvement(cell_: Measured, base: Measured) -> float:
    """Of a value over that without the lens, in percent; NaN where that is 0. As numbers: for deletion lower is better."""
    return 100 * (cell_.mean / base.mean - 1) if base.mean else math.nan


def names_of(runs: Runs, key: str) -> list[str]:
    """The methods, or variants, of the rows, in the order in which they first appear."""
    return list(dict.fromkeys(row[key] for rows in runs.values() for row in rows))


def records(runs: Runs, benchmark: Benchmark) -> list[dict[str, object]]:
    """A line for each method and variant: mean, deviation, and improvement of each measure, nets and maps."""
    found: list[dict[str, object]] = []
    for method in names_of(runs, "method"):
        for variant in names_of(runs, "variant"):
            line: dict[str, object] = {"method": method, "variant": variant or "without"}
            for column in benchmark.measures:
                now, base = cell(runs, method, variant, column), cell(runs, method, BASE, column)
                line |= {column: now.mean, f"{column}_sd": now.deviation, "nets": now.nets, "maps": now.maps}
                if variant != BASE:
                    line[f"{column}_improvement_percent"] = improvement(now, base)
            found.append(line)
    return found


def table(runs: Runs, benchmark: Benchmark) -> str:
    """Markdown: a line for each method and variant; under the lens the percentage behind the value, as in Table 1."""
    columns = list(benchmark.measures)
    arrows = {name: "↑" if higher else "↓" for name, higher in benchmark.measures.items()}
    lines = ["| method | variant | " + " | ".join(f"{name} {arrows[name]}" for name in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for method in names_of(runs, "method"):
        for variant in names_of(runs, "variant"):
            cells = [_written(runs, method, variant, column) for column in columns]
            lines.append(f"| {method} | {variant or 'without'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _written(runs: Runs, method: str, variant: str, column: str) -> str:
    now = cell(runs, method, variant, column)
    if not now.nets:
        return "-"
    text = f"{now.mean:.3f}" + (f" ± {now.deviation:.3f}" if now.nets > 1 else "")
    change = improvement(now, cell(runs, method, BASE, column))
    return text if variant == BASE or math.isnan(change) else f"{text} ({change:+.0f} %)"


def as_csv(runs: Runs, benchmark: Benchmark) -> str:
    """Every row that was measured, without the curves."""
    columns = list(dict.fromkeys(name for rows in runs.values() for row in rows for name in row))
    columns = ["net", *(name for name in columns if name not in benchmark.curves)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for net, rows in runs.items():
        writer.writerows({"net": net, **row} for row in rows)
    return text.getvalue()


def mean_curve(runs: Runs, method: str, variant: str, column: str) -> list[float]:
    """The mean over the curves of all nets and maps, point by point."""
    curves = [row[column] for rows in runs.values() for row in _of(rows, method, variant)]
    return [mean(points) for points in zip(*curves, strict=True)]


def by_fraction(runs: Runs, method: str, variant: str, column: str) -> tuple[list[float], list[float]]:
    """Share of the layers drawn anew, and the mean of a similarity there."""
    rows = [row for found in runs.values() for row in _of(found, method, variant)]
    fractions = sorted({row["randomized"] for row in rows})
    return fractions, [mean(_numbers([r for r in rows if r["randomized"] == f], column)) for f in fractions]
