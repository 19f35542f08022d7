"""Verdicts on claims by the runs of one experiment, or of several that belong to one paper, and by benchmarks of nets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guidance.results.claims.benchmarks import measure_judged, read_judged
from guidance.results.claims.claim_file import Check, Claim
from guidance.results.claims.values import NO_GROUP, Quantity, measure
from guidance.results.claims.verdicts import NOT_RUN, VERDICTS, Judged, Values, conclude, judge
from guidance.results.groups.epochs import ExperimentRuns, read_experiment
from guidance.results.plan_file import Plan
from guidance.types import suggestion


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by: an experiment, or nets whose maps were judged."""

    name: str
    scale: str  # empty where it is not said
    groups: frozenset[str]
    measure: Callable[[str, Quantity], Values]  # of a group


@dataclass(frozen=True)
class JudgedCheck:
    """A check, and what one piece of evidence says of it."""

    check: Check
    judged: Judged
    evidence: str  # its name
    scale: str  # of that evidence, empty where it is not said


@dataclass(frozen=True)
class Verdict:
    """A claim, what became of its checks, and the verdict."""

    claim: Claim
    verdict: str
    checks: tuple[JudgedCheck, ...]

    @property
    def scale(self) -> str:
        """Of the experiments that say something of it; of all where none does."""
        told = [each for each in self.checks if each.judged.verdict != NOT_RUN] or self.checks
        return ", ".join(dict.fromkeys(each.scale for each in told if each.scale))

    @property
    def reason(self) -> str:
        """Why, for people: of the checks that made the verdict, with the seeds and runs that are missing."""
        if self.claim.not_built:
            return self.claim.not_built
        deciding = [each.judged for each in self.checks if each.check.decides]
        telling = [judged for judged in deciding if judged.verdict == self.verdict]
        parts = [judged.reason for judged in telling]
        absent = [judged for judged in deciding if judged.verdict == NOT_RUN]
        if self.verdict != NOT_RUN and absent:
            parts += [f"{len(absent)} of {len(deciding)} checks not run:", *(judged.reason for judged in absent)]
        parts += [note for judged in telling for note in judged.notes]
        return _joined([each for part in parts for each in part.split("; ")])


def judge_claims(
    claims: Sequence[Claim], evidence: Sequence[Evidence], *, names: Mapping[str, str] | None = None
) -> tuple[Verdict, ...]:
    """Every claim, by what there is of it, of which there must be something.

    A check is judged by each of `evidence` that has all of its groups. `names`: group of a claim -> its name there; ValueError
    for a group that no claim has, or none of the evidence.
    """
    renamed = dict(names or {})
    used = {group for claim in claims for check in claim.checks for group in check.groups}
    there = set().union(*(each.groups for each in evidence))
    for role, name in renamed.items():
        if role not in used:
            raise ValueError(f"no claim names a group {role!r}.{suggestion(role, used)}")
        if name not in there:
            raise ValueError(f"there is no group {name!r}; there are {', '.join(sorted(there))}")

    def judged(check: Check) -> list[JudgedCheck]:
        groups = {renamed.get(group, group) for group in check.groups}
        able = [each for each in evidence if groups <= each.groups] or list(evidence[:1])
        found = [JudgedCheck(check, _judge(check, each, renamed), each.name, each.scale) for each in able]
        return [each for each in found if each.judged.verdict != NOT_RUN] or found[:1]

    verdicts = []
    for claim in claims:
        checks = tuple(each for check in claim.checks for each in judged(check))
        verdict = conclude([each.judged for each in checks if each.check.decides])
        verdicts.append(Verdict(claim, verdict, checks))
    return tuple(verdicts)


def _joined(parts: Sequence[str]) -> str:
    """Each once, and the groups that are missing in one list."""
    told = list(dict.fromkeys(parts))
    absent = [part.removeprefix(NO_GROUP) for part in told if part.startswith(NO_GROUP)]
    rest = [part for part in told if not part.startswith(NO_GROUP)]
    return "; ".join([*rest, *([f"{NO_GROUP}{', '.join(absent)}"] if absent else [])]).replace(":;", ":")


def of_experiment(plan: Plan) -> Evidence:
    """The runs of an experiment; they are read once for each evaluation that a claim asks for."""
    read: dict[tuple[tuple[str, str], ...], ExperimentRuns] = {}

    def of(group: str, quantity: Quantity) -> Values:
        key = tuple((name, str(value)) for name, value in sorted(quantity.where.items()))
        if key not in read:
            read[key] = read_experiment(plan, where=quantity.where, only_own=True)
        return measure(read[key], group, quantity)

    return Evidence(plan.name, plan.scale, frozenset(group.name for group in plan.groups), of)


def of_judged(folder: Path) -> Evidence:
    """The benchmarks of a folder of launch/judge.py."""
    judged = read_judged(folder)
    return Evidence(folder.name, "", frozenset(judged), lambda group, quantity: measure_judged(judged, group, quantity))


def _judge(check: Check, evidence: Evidence, names: Mapping[str, str]) -> Judged:
    """`names`: group of a claim -> its name in the evidence."""

    def measured(group: str, quantity: Quantity) -> Values:
        over = names.get(quantity.over, quantity.over)
        return evidence.measure(names.get(group, group), replace(quantity, over=over))

    other = measured(*check.other) if isinstance(check.other, tuple) else check.other
    return judge(
        check.expect, check.quantity.metric, measured(check.group, check.quantity), other,
        margin=check.margin, published=check.published, scale=evidence.scale,
    )  # fmt: skip


def counts(verdicts: Sequence[Verdict]) -> str:
    """How many claims had which verdict, and at which scale."""
    each = ", ".join(f"{sum(v.verdict == name for v in verdicts)} {name}" for name in VERDICTS)
    scales = ", ".join(dict.fromkeys(scale for verdict in verdicts for scale in [verdict.scale] if scale))
    return f"{len(verdicts)} claims: {each}; scale: {scales or 'not said'}"
