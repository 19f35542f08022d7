"""What a group stands for in the figures of the papers: its loss, its net, and where it is guided and explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from guidance.results.groups.epochs import GroupRun

NET, LOSS, WEIGHT = "model.name", "objective.localization.loss", "objective.localization.weight"
METHOD, DEPTH, MODE = "objective.attribution.method", "objective.attribution.depth", "objective.mode"
EVALUATED_METHOD, EVALUATED_DEPTH = "evaluation.attribution.method", "evaluation.attribution.depth"
LENS, EVALUATED_LENS = "objective.attribution.lens.classes", "evaluation.attribution.lens.classes"
# From the image to the classifier, as nets name them; other names follow.
DEPTHS = ("input", "mid1", "mid2", "mid3", "final")


class Traits(NamedTuple):
    """None where the configs do not say, or where the runs of a group differ."""

    net: str | None
    depth: str | None  # that is guided
    method: str | None
    loss: str | None  # "AIM" for nets that mask themselves, "no guidance" where no loss guides
    evaluated: tuple[str | None, str | None]  # method and depth of the maps that are evaluated


def traits_of(runs: Sequence[GroupRun]) -> Traits:
    """What all of the runs share."""
    found = [_traits(run.config) for run in runs]
    shared = [values[0] if all(value == values[0] for value in values) else None for values in zip(*found, strict=True)]
    net, depth, method, loss, evaluated = shared
    return Traits(net, depth, method, loss, evaluated or (None, None))


def _traits(config: Mapping[str, Any]) -> Traits:
    loss = config.get(LOSS) if config.get(WEIGHT) else ("no guidance" if config else None)
    if config.get(MODE) == "aim":
        loss = f"AIM, {loss}" if config.get(WEIGHT) else "AIM"
    method, depth = config.get(METHOD), config.get(DEPTH)
    guided, own = config.get(LENS), config.get(EVALUATED_LENS)
    evaluated = (
        _through(config.get(EVALUATED_METHOD) or method, own or guided),
        config.get(EVALUATED_DEPTH) or depth,
    )
    return Traits(config.get(NET), depth, _through(method, guided), loss, evaluated)


def _through(method: str | None, lens: Any) -> str | None:
    """A method with the classes that compete in its lens, if it has one."""
    return method if method is None or lens in (None, "none") else f"{method} + lens ({lens})"


def depth_order(depth: str) -> tuple[int, str]:
    """From the image to the classifier."""
    return (DEPTHS.index(depth) if depth in DEPTHS else len(DEPTHS), depth)
