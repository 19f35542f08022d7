"""Verdicts on claims as text, CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidance.evaluation.metrics import is_known, metric_of
from guidance.results.claims.claim_file import Check, Claim
from guidance.results.claims.judging import JudgedCheck, Verdict, counts
from guidance.results.claims.values import BEST, FRONT, NET, SPEED, Quantity
from guidance.results.claims.verdicts import NOT_RUN, Judged
from guidance.results.tables import align
from guidance.runs.files import finite, write_atomically

COLUMNS = ("claim", "paper", "where", "says", "check", "published", "ours", "sd", "seeds", "compared with", "difference",
           "low", "high", "verdict", "decides", "reason", "experiment", "scale")  # fmt: skip


def describe(check: Check) -> str:
    """A check in words, such as "EPG: energy better than l1 (test, best EPG)"."""
    quantity, margin = check.quantity, 0.0 if check.margin is None else check.margin
    relations = {"same": f"the same within {margin:g} as", "not_worse": f"at most {margin:g} worse than"}
    relation = relations.get(check.expect, f"{check.expect} than")
    where = ", ".join(
        (quantity.split, *_choice(quantity), *(f"{name}={_value(value)}" for name, value in quantity.where.items()))
    )
    mine = f"{_label(quantity)}: {_group(check.group, quantity)}"
    if check.expect == "number":
        return f"{mine} as published ({where})"
    if not isinstance(check.other, tuple):
        return f"{mine} {relation} {check.other:g} ({where})"
    group, other = check.other
    theirs = _group(group, other) if _label(other) == _label(quantity) else f"{_label(other)} of {_group(group, other)}"
    return f"{mine} {relation} {theirs} ({where})"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _group(name: str, quantity: Quantity) -> str:
    return f"{name} over {quantity.over}" if quantity.over else name


def _label(quantity: Quantity) -> str:
    name = f"hypervolume of {', '.join(map(_name, quantity.by))}" if quantity.at == FRONT else _name(quantity.metric)
    return f"gain in {name}" if quantity.over else name


def _name(metric: str) -> str:
    return metric_of(metric).label or metric if is_known(metric) else metric.replace("_", " ")


def _choice(quantity: Quantity) -> list[str]:
    if quantity.at in (FRONT, NET) or quantity.metric == SPEED:
        return []
    by = quantity.by or (quantity.metric,)
    return [f"best {_name(by[0])}" if quantity.at == BEST else f"knee of {', '.join(map(_name, by))}"]


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """A line for each claim with the reason, its checks that were run below it, and how many claims had which verdict."""
    lines = []
    for verdict in verdicts:
        lines += ["", f"{verdict.claim.name}: {verdict.claim.text}"]
        lines.append(f"  {verdict.verdict.upper()} ({verdict.claim.paper}, {verdict.claim.where}): {verdict.reason}")
        if verdict.claim.numbers:
            lines.append(f"  published: {'; '.join(_published(verdict.claim))}")
        told = [each for each in verdict.checks if each.judged.verdict != NOT_RUN]
        rows = [_cells(each, named=len({one.evidence for one in told}) > 1) for each in told]
        if rows:
            head = ["", "verdict", "seeds", "ours", "compared with", "difference", "95 % interval"]
            lines += [f"    {line}" for line in align([head, *rows], left=2).splitlines()]
    return "\n".join([*lines[1:], "", counts(verdicts)])


def _cells(each: JudgedCheck, *, named: bool) -> list[str]:
    """`named`: of which evidence, where there is more than one."""
    judged = each.judged
    said = describe(each.check) + (f", {each.evidence}" if named else "")
    return [
        said, judged.verdict if each.check.decides else f"({judged.verdict})", str(len(judged.seeds)),
        _mean(judged), _number(judged.other), _number(judged.difference), _interval(judged.interval),
    ]  # fmt: skip


def write_claims(folder: Path, verdicts: Sequence[Verdict]) -> list[Path]:
    """claims.json and claims.md, a row for each claim, and claims.csv, a line for each check with its numbers, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for verdict in verdicts for line in _lines(verdict))
    files = {
        "claims.json": json.dumps([as_row(verdict) for verdict in verdicts], indent=1, allow_nan=False) + "\n",
        "claims.csv": text.getvalue(),
        "claims.md": markdown(verdicts),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def as_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as texts and lists of texts, by column: what a report shows of it."""
    claim = verdict.claim
    return {
        "claim": claim.name, "says": claim.text, "where": f"{claim.paper}, {claim.where}", "published": _published(claim),
        "ours": [f"{describe(each.check)}: {_ours(each)}" for each in verdict.checks if each.judged.seeds],
        "scale": verdict.scale, "verdict": verdict.verdict, "reason": verdict.reason,
    }  # fmt: skip


def _published(claim: Claim) -> list[str]:
    return [f"{label}: {_printed(number)}" for label, number in claim.numbers.items()]


def _ours(each: JudgedCheck) -> str:
    judged = each.judged
    other = "" if math.isnan(judged.other) else f" against {judged.other:.4f}"
    seeds = f"{len(judged.seeds)} seed{'s' if len(judged.seeds) != 1 else ''}"
    return f"{_mean(judged)}{other} ({seeds}; {judged.verdict}{'' if each.check.decides else ', shown only'})"


def _lines(verdict: Verdict) -> list[dict[str, Any]]:
    claim = verdict.claim
    same = {"claim": claim.name, "paper": claim.paper, "where": claim.where, "says": claim.text}
    lines: list[dict[str, Any]] = []
    for each in verdict.checks:
        j, published = each.judged, each.check.published
        numbers = {"ours": j.ours, "sd": j.deviation, "compared with": j.other, "difference": j.difference,
                   "low": j.interval[0], "high": j.interval[1]}  # fmt: skip
        words = {"check": describe(each.check), "published": "" if published is None else published.mean,
                 "seeds": len(j.seeds), "verdict": j.verdict, "decides": each.check.decides,
                 "reason": "; ".join((j.reason, *j.notes)), "experiment": each.evidence, "scale": each.scale}  # fmt: skip
        lines.append({**same, **{name: finite(value) for name, value in numbers.items()}, **words})
    return lines or [same | {"verdict": verdict.verdict, "reason": verdict.reason}]


def markdown(verdicts: Sequence[Verdict]) -> str:
    """A table with a line for each claim."""
    lines = ["| claim | where | published | ours | verdict | why |", "|---|---|---|---|---|---|"]
    for verdict in verdicts:
        row = as_row(verdict)
        cells = (f"{row['claim']}: {row['says']}", row["where"], "<br>".join(row["published"]), "<br>".join(row["ours"]),
                 row["verdict"], row["reason"])  # fmt: skip
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join([*lines, "", counts(verdicts), ""])


def _printed(number: Any) -> str:
    return f"{number[0]:g} ± {number[1]:g}" if isinstance(number, list) else f"{number:g}"


def _mean(judged: Judged) -> str:
    spread = "" if math.isnan(judged.deviation) else f" ± {judged.deviation:.4f}"
    return f"{_number(judged.ours)}{spread}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _interval(interval: tuple[float, float]) -> str:
    return "-" if math.isnan(interval[0]) else f"{interval[0]:.4f} to {interval[1]:.4f}"
