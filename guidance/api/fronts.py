"""The front of a list of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from guidance.runs.pareto import Candidate, ParetoFront, non_dominated

Result = TypeVar("Result", bound=Mapping[str, float])


def front(
    results: Sequence[Result], metrics: Sequence[str] = ("f1", "epg", "iou"), *, resolution: float = 0.005
) -> list[Result]:
    """Those of the results, such as `evaluate` gives them, that no other dominates, in their order.

    Each metric counts in its own direction. Values are rounded to multiples of `resolution` before they are compared, as
    published (0: compared exactly); of equal results the first stays. A result without a value (NaN) of a metric is left out.
    Raises ValueError for a metric that a result lacks, and for one that says nothing about how good a net is.
    """
    judge = ParetoFront(metrics, resolution=resolution)
    points = [judge.row(Candidate(f"result {i}", result)) for i, result in enumerate(results)]
    known = [i for i, point in enumerate(points) if not any(map(math.isnan, point))]
    return [results[known[i]] for i in non_dominated([points[i] for i in known], resolution)]
