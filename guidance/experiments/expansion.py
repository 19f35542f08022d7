"""An experiment -> its runs: names, seeds, settings, what each starts from, and the config of each."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guidance.config import Config, change_content, check_processes, parse_config, read_content
from guidance.experiments.definition.schema import Experiment, RunsSettings
from guidance.results.plan_file import Group, Plan, PlannedRun

Identity = tuple[str, int, str]  # group, seed, settings: what stays the same when runs are added to an experiment
RUNS = "runs"


@dataclass(frozen=True)
class Drawn:
    """A run as the experiment describes it."""

    run: PlannedRun  # its folder is relative to that of the experiment
    content: Mapping[
        str, Any
    ]  # its config, nested, as the user wrote it; its weights are filled in when they are chosen
    stage: str | None = None  # that it starts from
    best: str | None = None  # metric by which the checkpoint of the stage is chosen; None: the last one
    candidates: tuple[str, ...] = ()  # the runs of the stage among which it is chosen

    def config(self, weights: Path | None = None) -> Config:
        """Its config, which starts from the checkpoint `weights` where the run starts from a stage. ValueError for mistakes."""
        content = copy.deepcopy(dict(self.content))
        if self.stage is not None:
            change_content(content, {"model.weights": str(weights or f"the best of {self.stage}")})
        return parse_config(content, source=self.run.name)


def points(part: RunsSettings) -> list[dict[str, Any]]:
    """The settings of each of its runs: every item of `list` with every combination of `grid`, the last name fastest."""
    combinations = [dict(zip(part.grid, values, strict=True)) for values in itertools.product(*part.grid.values())]
    return [item | combination for item in part.points or [{}] for combination in combinations]


def identity(run: PlannedRun) -> Identity:
    return run.group, run.seed, json.dumps(dict(run.settings), sort_keys=True, default=str)


def expand(experiment: Experiment, known: Plan | None = None) -> list[Drawn]:
    """The runs of an experiment, stages first, in the order of the file: each point with all seeds.

    `known`: the plan of an earlier start. Runs that it has keep their numbers, and new ones come after these, so that an
    experiment can grow. Raises ValueError for a config file that cannot be read, and for two runs that are the same.
    """
    numbers = {identity(run): int(run.name.rpartition("/")[2]) for run in known.runs} if known else {}
    drawn: list[Drawn] = []
    for group, part in experiment.parts.items():
        base = _content(part.base if part.base is not None else experiment.base)
        wanted = [
            PlannedRun("", group, seed, Path(), settings)
            for settings in points(part)
            for seed in part.seeds or experiment.seeds
        ]
        taken = [number for (name, _, _), number in numbers.items() if name == group]
        free = itertools.count(max(taken, default=-1) + 1)
        found = {key: numbers[key] if key in numbers else next(free) for key in map(identity, wanted)}
        if len(found) < len(wanted):
            raise ValueError(f"two runs of {group} have the same settings and seed; leave out one of them")
        for run in wanted:
            name = f"{group}/{found[identity(run)]:04d}"
            content = copy.deepcopy(base)
            change_content(content, experiment.settings | part.settings | dict(run.settings) | {"seed": run.seed})
            drawn.append(Drawn(replace(run, name=name, folder=Path(RUNS, name)), content, part.start))
    return [_with_candidates(item, experiment, drawn) for item in drawn]


def _with_candidates(item: Drawn, experiment: Experiment, drawn: list[Drawn]) -> Drawn:
    if item.stage is None:
        return item
    stage = experiment.stages[item.stage]
    own = [other.run for other in drawn if other.run.group == item.stage]
    one_seed = len({run.seed for run in own}) == 1
    names = tuple(run.name for run in own if one_seed or run.seed == item.run.seed)
    return replace(item, best=stage.best, candidates=names)


def _content(base: Path | Mapping[str, Any]) -> dict[str, Any]:
    return dict(base) if isinstance(base, Mapping) else read_content(base)


def groups(experiment: Experiment) -> tuple[Group, ...]:
    """Its stages and groups, as reports know them."""
    return tuple(Group(name, part.label or name, part.baseline) for name, part in experiment.parts.items())


def parse_configs(drawn: list[Drawn], *, processes: int = 1) -> dict[str, Config]:
    """The config of each run, by its name, without the weights of stages.

    Raises ValueError that tells the mistakes of all runs, each once, with the run. `processes`: of each run.
    """
    configs: dict[str, Config] = {}
    found: dict[str, list[str]] = {}
    for item in drawn:
        try:
            config = item.config()
            check_processes(config, processes)
            configs[item.run.name] = config
        except ValueError as error:
            first, *lines = str(error).split("\n  - ")
            for line in lines or [first]:
                found.setdefault(line, []).append(item.run.name)
    if found:
        told = [f"  - {_names(runs)}: {line}" for line, runs in found.items()]
        raise ValueError("\n".join(["the configs of these runs are not valid:", *told]))
    return configs


def _names(runs: list[str]) -> str:
    return runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more"


def select(drawn: list[Drawn], *, only: list[str] | None = None, seeds: list[int] | None = None) -> list[Drawn]:
    """The runs of some groups or seeds, and those of the stages that they start from. ValueError for a name that is unknown."""
    have: list[tuple[str, set[Any], list[Any] | None, Callable[[Drawn], Any]]] = [
        ("--only", {item.run.group for item in drawn}, only, lambda item: item.run.group),
        ("--seeds", {item.run.seed for item in drawn}, seeds, lambda item: item.run.seed),
    ]
    chosen = drawn
    for option, known, wanted, value in have:
        unknown = [name for name in wanted or () if name not in known]
        if unknown:
            raise ValueError(f"{option} {unknown[0]}: the experiment has {', '.join(map(str, sorted(known)))}")
        chosen = [item for item in chosen if wanted is None or value(item) in wanted]
    names = {item.run.name for item in chosen}
    for item in reversed(drawn):  # what a run starts from comes before it
        names |= set(item.candidates) if item.run.name in names else set()
    return [item for item in drawn if item.run.name in names]
