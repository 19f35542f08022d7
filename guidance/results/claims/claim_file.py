"""The claims of the papers as data (configs/claims/claims.yaml), with the published numbers from docs/papers.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from guidance.results.claims.values import BEST, CHECKPOINTS, FRONT, Quantity
from guidance.results.claims.verdicts import EXPECTATIONS, MARGINAL, Published
from guidance.types import check_options, lookup

CLAIM = ("id", "paper", "where", "claim", "checks", "numbers", "settings", "not_built")
CHECK = ("expect", "group", "over", "metric", "than", "than_over", "than_metric", "value", "within", "published", "unit",
         "decides", "split", "at", "by", "evaluated", "settings")  # fmt: skip
UNITS = {"percent": 0.01, "one": 1.0}


@dataclass(frozen=True)
class Check:
    """One comparison of a claim: what is measured of a group, and what of the group or value that it is compared with."""

    expect: str  # one of `verdicts.EXPECTATIONS`
    group: str
    quantity: Quantity
    other: tuple[str, Quantity] | float | None = None
    margin: float | None = None
    published: Published | None = None
    decides: bool = True

    @property
    def groups(self) -> tuple[str, ...]:
        """All that it needs."""
        named = [self.group, self.quantity.over]
        if isinstance(self.other, tuple):
            named += [self.other[0], self.other[1].over]
        return tuple(dict.fromkeys(filter(None, named)))


@dataclass(frozen=True)
class Claim:
    """A claim of a paper. Without checks it is not run, for the reason `not_built`."""

    name: str
    paper: str
    where: str  # section, table, figure
    text: str
    checks: tuple[Check, ...]
    numbers: Mapping[str, Any]  # published ones, as printed, to show
    not_built: str = ""


def read_claims(path: Path, papers: Path) -> tuple[Claim, ...]:
    """The claims of a file, with the numbers that they name from the `results` of `papers`.

    Raises ValueError, naming file and claim, for an unknown key, a number that is not there, and a check that is incomplete.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        printed = yaml.safe_load(papers.read_text(encoding="utf-8"))["results"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path} and {papers} must be YAML, with claims and results: {error}") from error
    found: dict[str, Claim] = {}
    for number, entry in enumerate((content or {}).get("claims") or (), start=1):
        name = str(entry.get("id", f"number {number}"))
        try:
            claim = _claim(entry, printed)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, claim {name}: {_told(error)}") from error
        if name in found:
            raise ValueError(f"{path}: two claims are called {name}")
        found[name] = claim
    if not found:
        raise ValueError(f"{path} holds no claims; expected a list under 'claims'")
    return tuple(found.values())


def _told(error: Exception) -> str:
    return f"it lacks {error.args[0]!r}" if isinstance(error, KeyError) else str(error)


def _claim(entry: Mapping[str, Any], printed: Mapping[str, Any]) -> Claim:
    check_options(entry, CLAIM, "a claim")
    checks = tuple(_check(check, printed, entry.get("settings", {})) for check in entry.get("checks", ()))
    reason = entry.get("not_built", "")
    if bool(checks) == bool(reason):
        raise ValueError("expected either checks, or why there are none (not_built)")
    if checks and not any(check.decides for check in checks):
        raise ValueError("none of its checks decides")
    numbers = {label: find(printed, place) for label, place in entry.get("numbers", {}).items()}
    return Claim(
        str(entry["id"]), entry["paper"], str(entry["where"]), str(entry["claim"]).strip(), checks, numbers, reason
    )


def _check(entry: Mapping[str, Any], printed: Mapping[str, Any], shared: Mapping[str, Any]) -> Check:
    """`shared`: what all runs of the claim must say."""
    check_options(entry, CHECK, "a check")
    expect, group, quantity = entry["expect"], entry["group"], _quantity(entry, shared)
    if expect not in EXPECTATIONS:
        raise ValueError(f"a check cannot expect {expect!r}; it can expect {', '.join(EXPECTATIONS)}")
    other: tuple[str, Quantity] | float | None = None
    if {"than", "than_metric"} & set(entry):
        metric, over = entry.get("than_metric", quantity.metric), entry.get("than_over", "")
        other = entry.get("than", group), replace(quantity, metric=metric, over=over, settings=shared)
    elif "value" in entry:
        other = float(entry["value"])
    published = None
    if "published" in entry:
        published = _published(find(printed, entry["published"]), lookup(UNITS, entry.get("unit", "percent"), "unit"))
    if (expect == "number") != (published is not None) or (expect == "number") == (other is not None):
        raise ValueError(
            "a number is compared with what is `published`; anything else with a group (`than`) or a `value`"
        )
    needs_margin = expect in MARGINAL or (published is not None and not published.deviation > 0)
    if needs_margin != ("within" in entry):
        raise ValueError(
            f"`within` belongs to {', '.join(MARGINAL)}, and to a number that is printed without a standard deviation"
        )
    return Check(expect, group, quantity, other, entry.get("within"), published, bool(entry.get("decides", True)))


def _quantity(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Quantity:
    at = lookup({name: name for name in CHECKPOINTS}, entry.get("at", BEST), "choice of a checkpoint")
    metric, by = entry.get("metric", ""), tuple(entry.get("by", ()))
    if bool(metric) == (at == FRONT) or (at == FRONT and not by):
        raise ValueError("a check needs a metric, or `at: front` and the metrics `by`")
    settings = {**shared, **entry.get("settings", {})}
    where = dict(entry.get("evaluated", {}))
    return Quantity(metric or "hypervolume", entry.get("split", "test"), at, by, entry.get("over", ""), where, settings)


def _published(number: Any, unit: float) -> Published:
    mean, deviation = number if isinstance(number, list) else (number, math.nan)
    return Published(float(mean) * unit, float(deviation) * unit)


def find(printed: Mapping[str, Any], place: Sequence[Any]) -> Any:
    """A number of docs/papers.yaml by the keys of its place: paper, table, row, and, where the table has columns, column.

    As printed: a number, or [mean, standard deviation].
    """
    here: Any = printed
    columns: list[str] = []
    for key in place:
        if isinstance(here, Mapping):
            columns = here.get("columns", columns)
            here = here.get(key)
        elif isinstance(here, list) and key in columns:
            here = here[columns.index(key)]
        else:
            here = None
        if here is None:
            raise ValueError(f"docs/papers.yaml has no result {' > '.join(map(str, place))}: nothing at {key!r}")
    if isinstance(here, Mapping) or (isinstance(here, list) and len(here) != 2):
        raise ValueError(
            f"{' > '.join(map(str, place))} of docs/papers.yaml is not one number; name its row and column"
        )
    return here
