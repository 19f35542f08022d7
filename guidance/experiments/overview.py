"""What is told of an experiment before it runs, and after: its runs as a table, and what to do about those that did not end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from guidance.experiments.definition.schema import ALL, BEST, FRONT
from guidance.experiments.estimates import expected_pace, paces, training_splits
from guidance.experiments.evaluation import missing
from guidance.experiments.jobs.execution import NOT_STARTED
from guidance.experiments.keeping import Disk, disk_of_runs, size
from guidance.experiments.outcomes import FAILED, FINISHED, INTERRUPTED, Outcome
from guidance.experiments.planning import Planned
from guidance.experiments.states import RunState
from guidance.progress import duration

UNKNOWN = "unknown until the first run"


def describe_state(planned: Planned, name: str, state: RunState) -> str:
    """Such as "interrupted at epoch 3 of 20"."""
    epochs = planned.configs[name].trainer.epochs
    if state.kind == FINISHED:
        lacking = len(missing(planned.run_folder(name), planned.experiment.evaluate))
        return f"finished, {lacking} evaluations to do" if lacking else "finished"
    if state.kind == INTERRUPTED:
        return f"interrupted at epoch {state.epoch} of {epochs}"
    at = f" at epoch {state.epoch} of {epochs}" if state.kind == FAILED and state.step else ""
    return f"{state.kind}{at}{f': {state.remark}' if state.remark else ''}"


def plan_table(planned: Planned, states: Mapping[str, RunState], *, slots: int = 1) -> str:
    """A line for each of the runs in `states`: settings, seed, state, steps and time still to go, disk; and the sum.

    `slots`: runs at a time, which share the sum.
    """
    outcomes = {name: planned.outcome(name) for name in planned.drawn}
    folders = {name: planned.run_folder(name) for name in planned.drawn}
    known = paces(folders, planned.configs, outcomes)
    splits, problems = training_splits(), set()
    disk = disk_of_runs(planned, {name: state.kind == FINISHED for name, state in states.items()}, splits)
    rows, total_steps, total_seconds = [], 0.0, 0.0
    for name, state in states.items():
        item, config = planned.drawn[name], planned.configs[name]
        split = splits(config)
        if isinstance(split, str):
            problems.add(split)
        steps = (
            math.nan if isinstance(split, str) else split.images // config.trainer.batch_size * config.trainer.epochs
        )
        left = 0 if state.kind == FINISHED else max(steps - state.step, 0)  # NaN stays
        group = [known[other] for other, drawn in planned.drawn.items() if drawn.run.group == item.run.group]
        seconds = 0.0 if left == 0 else left * expected_pace(known[name], group, list(known.values()))
        total_steps, total_seconds = total_steps + left, total_seconds + seconds
        settings = ", ".join(f"{_short(key, item.run.settings)} {value}" for key, value in item.run.settings.items())
        rows.append([
            name, settings or "-", str(item.run.seed), str(item.run.start or item.stage or "-"),
            describe_state(planned, name, state), "unknown" if math.isnan(left) else f"{left:.0f}", duration(seconds),
            size(disk[name].finished),
        ])  # fmt: skip
    lines = table([["run", "settings", "seed", "from", "state", "steps to go", "time", "disk"], *rows])
    lines.append(_sum(len(rows), total_steps, total_seconds, slots))
    lines.append(_disk(planned, [disk[name] for name in states], slots))
    lines += [f"steps and disk are unknown: {problem}" for problem in sorted(problems)]
    lines += _published(planned, {planned.drawn[name].run.group for name in states})
    if planned.gone:
        gone = ", ".join(run.name for run in planned.gone)
        lines.append(f"no longer in the file, and left alone: {gone}")
    return "\n".join(lines)


def _published(planned: Planned, groups: set[str]) -> list[str]:
    """Which protocols of the papers the groups are."""
    how = "a small variant of" if planned.experiment.scale == "small" else "published as"
    parts = {name: part for name, part in planned.experiment.parts.items() if name in groups and part.published}
    return [f"{name} is {how} {', '.join(part.published)} (docs/papers.yaml)" for name, part in parts.items()]


def _sum(count: int, steps: float, seconds: float, slots: int) -> str:
    told_steps = "an unknown number of" if math.isnan(steps) else f"{steps:.0f}"
    time = f"time {UNKNOWN}" if math.isnan(seconds) else f"about {duration(seconds / slots)}"
    return f"{count} runs, {told_steps} steps to go, {time}" + (f", {slots} at a time" if slots > 1 else "")


def _disk(planned: Planned, disk: Sequence[Disk], slots: int) -> str:
    keep, finished = planned.experiment.keep, size(sum(run.finished for run in disk))
    extra = sum(sorted((run.extra for run in disk), reverse=True)[:slots])
    more = f", and up to {size(extra)} more while they train" if extra else ""
    return f"disk of the finished runs: about {finished} ({KEPT[keep]}){more}"


def _short(key: str, settings: Mapping[str, Any]) -> str:
    """The shortest end of a dotted name that no other of the settings has."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if sum(other == end or other.endswith(f".{end}") for other in settings) == 1:
            return end
    return key


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose columns are as wide as their content; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def ending(planned: Planned, ended: Mapping[str, Outcome]) -> str:
    """What became of the runs; of those that did not finish, why, and where it can be read."""
    counts = {kind: [name for name, outcome in ended.items() if outcome.kind == kind] for kind in KINDS}
    lines = [", ".join(f"{len(names)} {kind}" for kind, names in counts.items() if names) or "nothing was to be done"]
    for name in counts[FAILED]:
        lines += [f"{name} failed: {ended[name].remark}", f"  log: {planned.log(name)}"]
    lines += [f"{name} was not started: {ended[name].remark}" for name in counts[NOT_STARTED]]
    return "\n".join(lines)


KEPT = {
    ALL: "`keep: all`: they can be trained for more epochs",
    FRONT: "`keep: front`: weights only; `all` keeps what training for more epochs needs",
    BEST: "`keep: best`: of each front the weights that are best in a metric; stages keep theirs",
}
KINDS = (FINISHED, INTERRUPTED, FAILED, NOT_STARTED)
