"""Verdicts on claims by the runs of one experiment, or of several that belong to one paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from guidance.results.claims.claim_file import Check, Claim
from guidance.results.claims.values import NO_GROUP, Quantity, measure
from guidance.results.claims.verdicts import NOT_RUN, VERDICTS, Judged, Values, conclude, judge
from guidance.results.groups.epochs import ExperimentRuns, read_experiment
from guidance.results.plan_file import Plan
from guidance.types import suggestion

Measure = Callable[[str, Quantity], Values]


@dataclass(frozen=True)
class JudgedCheck:
    """A check, and what one experiment says of it."""

    check: Check
    judged: Judged
    experiment: str
    scale: str  # of that experiment, empty where it is not said


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
    claims: Sequence[Claim], plans: Sequence[Plan], *, names: Mapping[str, str] | None = None
) -> tuple[Verdict, ...]:
    """Every claim, by the runs of the experiments.

    A check is judged in each experiment that has all of its groups. `names`: group of a claim -> the experiments' name for it;
    ValueError for a group that no claim has, or none of the experiments.
    """
    renamed = dict(names or {})
    used = {group for claim in claims for check in claim.checks for group in check.groups}
    there = {group.name for plan in plans for group in plan.groups}
    for role, name in renamed.items():
        if role not in used:
            raise ValueError(f"no claim names a group {role!r}.{suggestion(role, used)}")
        if name not in there:
            raise ValueError(f"there is no group {name!r}; there are {', '.join(sorted(there))}")

    measures = [_measuring(plan, renamed) for plan in plans]

    def judged(check: Check) -> list[JudgedCheck]:
        groups = {renamed.get(group, group) for group in check.groups}
        places = [i for i, plan in enumerate(plans) if groups <= {group.name for group in plan.groups}] or [0]
        found = [
            JudgedCheck(check, _judge(check, plans[i].scale, measures[i]), plans[i].name, plans[i].scale)
            for i in places
        ]
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


def _measuring(plan: Plan, names: Mapping[str, str]) -> Measure:
    """What measures groups of an experiment under their names in the claims; its runs are read once for each evaluation."""
    read: dict[tuple[tuple[str, str], ...], ExperimentRuns] = {}

    def of(group: str, quantity: Quantity) -> Values:
        key = tuple((name, str(value)) for name, value in sorted(quantity.where.items()))
        if key not in read:
            read[key] = read_experiment(plan, where=quantity.where, only_own=True)
        over = names.get(quantity.over, quantity.over)
        return measure(read[key], names.get(group, group), replace(quantity, over=over))

    return of


def _judge(check: Check, scale: str, measured: Measure) -> Judged:
    other = measured(*check.other) if isinstance(check.other, tuple) else check.other
    return judge(
        check.expect, check.quantity.metric, measured(check.group, check.quantity), other,
        margin=check.margin, published=check.published, scale=scale,
    )  # fmt: skip


def counts(verdicts: Sequence[Verdict]) -> str:
    """How many claims had which verdict, and at which scale."""
    each = ", ".join(f"{sum(v.verdict == name for v in verdicts)} {name}" for name in VERDICTS)
    scales = ", ".join(dict.fromkeys(scale for verdict in verdicts for scale in [verdict.scale] if scale))
    return f"{len(verdicts)} claims: {each}; scale: {scales or 'not said'}"
