"""Two evaluated nets sample by sample, from the tables that `evaluation.per_sample` wrote of them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from guidance.evaluation.statistics import mean

Pair = tuple[str, str]  # image, class


def read_scores(path: Path, score: str) -> dict[Pair, float]:
    """(image, class) -> its score, NaN where the table has none. Raises ValueError for a table that is not as expected."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        missing = [name for name in ("image", "class", score) if name not in columns]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]!r}; it has {', '.join(columns) or 'none'}. It must be a table that "
                "launch/evaluate.py --per-sample has written"
            )
        scores: dict[Pair, float] = {}
        for row in reader:
            pair = row["image"], row["class"]
            if pair in scores:
                raise ValueError(f"{path}, line {reader.line_num}: image {pair[0]}, class {pair[1]} occurs twice")
            try:
                scores[pair] = float(row[score] or "nan")
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {score} is {row[score]!r}, not a number") from error
    return scores


def read_right(path: Path) -> dict[str, bool]:
    """Image -> whether the net decides as labelled for each class that the table has of it; empty where it does not say.

    The table has the positive classes of an image, and those that were explained: with a single label an image is right
    where its class is predicted; with several, where all of them are, whatever else is predicted.
    """
    right: dict[str, bool] = {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"target", "predicted"} <= set(reader.fieldnames or ()):
            return {}
        for row in reader:
            right[row["image"]] = right.get(row["image"], True) and row["target"] == row["predicted"]
    return right


def by_image(scores: dict[Pair, float]) -> dict[str, float]:
    """Image -> the mean of its finite scores over its classes; without those that have none."""
    found: dict[str, list[float]] = {}
    for (image, _), value in scores.items():
        if math.isfinite(value):
            found.setdefault(image, []).append(value)
    return {image: mean(values) for image, values in found.items()}


def join(baseline: dict[Pair, float], method: dict[Pair, float]) -> list[tuple[float, float]]:
    """The scores (baseline, method) of the pairs that have a finite one in both, in the order of the baseline."""
    both = [(value, method[pair]) for pair, value in baseline.items() if pair in method]
    if not both:
        raise ValueError("the tables have no image and class in common; evaluate both nets on the same split")
    found = [scores for scores in both if all(map(math.isfinite, scores))]
    if not found:
        raise ValueError("no image and class has a finite score in both tables")
    return found


def summary(scores: list[tuple[float, float]], names: tuple[str, str], score: str, left_out: int) -> str:
    """What the points say, as text."""
    count = len(scores)
    higher, lower = (sum(sign * (y - x) > 0 for x, y in scores) for sign in (1, -1))
    means = [math.fsum(column) / count for column in zip(*scores, strict=True)]
    width = max(map(len, names))
    lines = [f"{name:<{width}}  mean {score} {mean:.4f}" for name, mean in zip(names, means, strict=True)]
    lines.append(
        f"{names[1]} is higher for {higher} of {count} samples ({higher / count:.1%}), lower for {lower}, "
        f"equal for {count - higher - lower}"
    )
    if left_out:
        lines.append(f"{left_out} samples are left out: they have no {score}, or are in one table only")
    return "\n".join(lines)
