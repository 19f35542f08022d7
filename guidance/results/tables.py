"""Results as aligned text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from guidance.evaluation.size_bias import SizeBin
from guidance.results.fronts import MergedFront

# What is shown of a run beside others, where any has a value.
RUN_METRICS = ("worst_group_accuracy", "fixed_group_accuracy", "accuracy", "f1", "map", "epg", "epg_chance", "iou")
BY_CLASS = 40  # metrics of single classes; where there are more they are only written


def align(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of cells as lines; the first `left` columns are texts, flush left, the others numbers, flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        texts = [text.ljust(width) for text, width in zip(row[:left], widths[:left], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join([*texts, *numbers]))
    return "\n".join(lines)


def front_table(front: MergedFront, split: str | None = None) -> str:
    """The members of a front, with its metrics on the split too if they were evaluated there; * marks the knee."""
    evaluated = list(dict.fromkeys(name for member in front.members for name in member.evaluated))
    shown = [name for name in evaluated if name in {f"{split}_{metric}" for metric in front.metrics}] or evaluated
    rows = [["", "run", "checkpoint", "epoch", *front.metrics, *shown]]
    for member in front.members:
        values = [member.saved.candidate.values[metric] for metric in front.metrics]
        values += [member.evaluated.get(name, math.nan) for name in shown]
        name, epoch = member.saved.candidate.name, str(member.saved.epoch)
        rows.append(["*" if member.is_knee else "", member.run, name, epoch, *(f"{value:.4f}" for value in values)])
    return align(rows, left=3)


def run_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """One line per run, one column for each of `RUN_METRICS` that any run has."""
    names = [name for name in RUN_METRICS if not all(math.isnan(r.get(name, math.nan)) for r in results.values())]
    rows = [["run", *names]]
    for run, metrics in results.items():
        values = [metrics.get(name, math.nan) for name in names]
        rows.append([run, *("-" if math.isnan(value) else f"{value:.3f}" for value in values)])
    return align(rows)


def metric_table(metrics: Mapping[str, float]) -> str:
    """One line per metric, those of single classes where they are few, and the names of those without a value."""
    by_class = [name for name in metrics if "_class/" in name]
    shown = {name: value for name, value in metrics.items() if name not in by_class or len(by_class) <= BY_CLASS}
    undefined = [name for name, value in shown.items() if math.isnan(value)]
    width = max(map(len, shown))
    lines = [f"{name:<{width}}  {value:.4f}" for name, value in shown.items() if name not in undefined]
    return "\n".join([*lines, *([f"without a value here: {', '.join(undefined)}"] if undefined else [])])


def size_table(bins: Sequence[SizeBin]) -> str:
    """EPG of the pairs of each size of their mask, beside chance; sizes without a pair are left out."""
    rows = [["share of the image", "pairs", "EPG", "chance"]]
    rows += [[f"{b.low:.2f} to {b.high:.2f}", str(b.pairs), f"{b.epg:.4f}", f"{b.chance:.4f}"] for b in bins if b.pairs]
    return align(rows)
