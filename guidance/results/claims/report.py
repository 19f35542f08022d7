"""Verdicts on all claims: judged, and as text, CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.evaluation.metrics import is_known, metric_of
from guidance.results.claims.claim_file import Check, Claim
from guidance.results.claims.values import measure
from guidance.results.claims.verdicts import NOT_RUN, VERDICTS, Judged, Values, conclude, judge
from guidance.results.plan_file import Plan
from guidance.results.tables import align
from guidance.runs.files import finite, write_atomically

COLUMNS = ("claim", "paper", "where", "says", "check", "published", "ours", "sd", "seeds", "compared with", "difference",
           "low", "high", "verdict", "reason", "scale")  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim, what became of its checks, and the verdict."""

    claim: Claim
    verdict: str
    judged: tuple[tuple[Check, Judged], ...]
    scale: str  # of the experiment, empty where it is not said

    @property
    def reason(self) -> str:
        """Why, for people: of the checks that made the verdict."""
        if self.claim.not_built:
            return self.claim.not_built
        deciding = [
            j for check, j in self.judged if check.decides and (j.verdict == self.verdict or len(self.judged) == 1)
        ]
        return "; ".join(dict.fromkeys(judged.reason for judged in deciding)) or "only some of its checks could be run"


def judge_claims(claims: Sequence[Claim], plan: Plan, *, names: Mapping[str, str] | None = None) -> tuple[Verdict, ...]:
    """Every claim, by the runs of an experiment. `names`: group of a claim -> the experiment's name for it."""
    return tuple(_judge(claim, plan, names or {}) for claim in claims)


def _judge(claim: Claim, plan: Plan, names: Mapping[str, str]) -> Verdict:
    judged = []
    for check in claim.checks:
        ours = measure(plan, names.get(check.group, check.group), check.quantity)
        other: Values | float | None = None
        if isinstance(check.other, tuple):
            group, quantity = check.other
            other = measure(plan, names.get(group, group), quantity)
        else:
            other = check.other
        found = judge(
            check.expect, check.quantity.metric, ours, other,
            margin=check.margin, published=check.published, scale=plan.scale,
        )  # fmt: skip
        judged.append((check, found))
    verdict = conclude([found for check, found in judged if check.decides])
    return Verdict(claim, verdict, tuple(judged), plan.scale)


def describe(check: Check) -> str:
    """A check in words, such as "EPG of energy is better than that of l1"."""
    quantity = check.quantity
    name = f"hypervolume over {', '.join(quantity.by)}" if quantity.at == "front" else _label(quantity.metric)
    if check.expect == "number":
        return f"{name} of {check.group} is as published"
    than = f"{check.other}" if not isinstance(check.other, tuple) else check.other[0]
    if isinstance(check.other, tuple) and check.other[1].metric != quantity.metric:
        than = f"{_label(check.other[1].metric)} of {than}"
    how = f"the same within {check.margin:g} as" if check.expect == "same" else f"{check.expect} than"
    where = f" ({quantity.split}, {quantity.at})"
    return f"{name} of {check.group} is {how} {than}{where}"


def _label(metric: str) -> str:
    return metric_of(metric).label if is_known(metric) else metric


def claims_table(verdicts: Sequence[Verdict]) -> str:
    """A line for each claim with its deciding checks below it, and how many had which verdict."""
    rows = [["claim", "verdict", "seeds", "ours", "other", "difference", "95 % interval"]]
    for verdict in verdicts:
        rows.append([f"{verdict.claim.name} {_short(verdict.claim.text)}", verdict.verdict, "", "", "", "", ""])
        for check, judged in verdict.judged:
            if judged.verdict == NOT_RUN:
                continue
            rows.append([
                f"   {describe(check)}", judged.verdict, str(len(judged.seeds)), _mean(judged), _number(judged.other),
                _number(judged.difference), _interval(judged.interval),
            ])  # fmt: skip
    return f"{align(rows, left=2)}\n\n{counts(verdicts)}"


def counts(verdicts: Sequence[Verdict]) -> str:
    """How many claims had which verdict, and at which scale."""
    each = ", ".join(f"{sum(v.verdict == name for v in verdicts)} {name}" for name in VERDICTS)
    scale = verdicts[0].scale if verdicts else ""
    return f"{len(verdicts)} claims: {each}; scale: {scale or 'not said'}"


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
        "ours": [f"{describe(check)}: {_ours(judged)}" for check, judged in verdict.judged if judged.seeds],
        "scale": verdict.scale, "verdict": verdict.verdict, "reason": verdict.reason,
    }  # fmt: skip


def _published(claim: Claim) -> list[str]:
    return [f"{label} {_printed(number)}" for label, number in claim.numbers.items()]


def _ours(judged: Judged) -> str:
    other = "" if math.isnan(judged.other) else f" against {judged.other:.4f}"
    return f"{_mean(judged)}{other} ({len(judged.seeds)} seed{'s' if len(judged.seeds) != 1 else ''}; {judged.verdict})"


def _lines(verdict: Verdict) -> list[dict[str, Any]]:
    claim = verdict.claim
    same = {"claim": claim.name, "paper": claim.paper, "where": claim.where, "says": claim.text, "scale": verdict.scale}
    lines: list[dict[str, Any]] = []
    for check, j in verdict.judged:
        numbers = {"ours": j.ours, "sd": j.deviation, "compared with": j.other, "difference": j.difference,
                   "low": j.interval[0], "high": j.interval[1]}  # fmt: skip
        published = "" if check.published is None else check.published.mean
        words = {"check": describe(check), "published": published, "seeds": len(j.seeds), "verdict": j.verdict,
                 "reason": "; ".join((j.reason, *j.notes))}  # fmt: skip
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


def _short(text: str, width: int = 70) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."
