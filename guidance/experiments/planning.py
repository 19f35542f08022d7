"""The experiment in a folder: its file, its plan, how far its runs have come, and which checkpoints they start from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from guidance.config import Config
from guidance.experiments import states
from guidance.experiments.choices import Choice, choose
from guidance.experiments.definition.reading import dump_experiment
from guidance.experiments.definition.schema import Experiment
from guidance.experiments.expansion import Drawn, expand, groups, identity, parse_configs
from guidance.experiments.outcomes import CHANGED, FINISHED, Outcome, read_outcome
from guidance.experiments.states import RunState, state_of
from guidance.results.plan_file import PLAN, Plan, PlannedRun, read_plan, write_plan
from guidance.runs.files import write_atomically
from guidance.runs.paths import CONFIG

EXPERIMENT, LOGS = "experiment.yaml", "logs"


@dataclass(frozen=True)
class Planned:
    """An experiment and the folder that it lives in."""

    experiment: Experiment
    folder: Path  # absolute
    drawn: Mapping[str, Drawn]  # by the name of the run; `run` has the weights that were chosen for it
    configs: Mapping[str, Config]  # of each run, with these weights
    gone: tuple[PlannedRun, ...] = ()  # runs of an earlier start that the file no longer has

    def run_folder(self, name: str) -> Path:
        """Where a run lies."""
        return self.folder / self.drawn[name].run.folder

    def log(self, name: str, suffix: str = ".log") -> Path:
        """What its training printed; with another suffix: the config it is started with, and how it ended."""
        return self.folder / LOGS / f"{name}{suffix}"

    def outcome(self, name: str) -> Outcome | None:
        """How the latest start of a run ended; None where it was not started, or is running."""
        return read_outcome(self.log(name, ".json"))

    def state(self, name: str) -> RunState:
        """How far a run has come."""
        item, config, folder = self.drawn[name], self.configs[name], self.run_folder(name)
        if item.stage is not None and item.run.weights is None:  # there is nothing yet to compare its weights with
            config = states.config_to_resume(folder, config)
        return state_of(folder, config, self.outcome(name))

    def plan(self) -> Plan:
        """As plan.json has it."""
        name = self.experiment.name or self.folder.name
        runs = tuple(item.run for item in self.drawn.values())
        return Plan(name, groups(self.experiment), runs, self.experiment.scale or "")


def prepare(experiment: Experiment, folder: Path, *, processes: int = 1) -> Planned:
    """The runs of an experiment in `folder`, with the weights of those stages that are finished. It writes nothing.

    `processes`: of each run, which share a batch. Raises ValueError, which tells all mistakes of one kind: a config that is
    not valid, a run in the folder that is another one than the file says, a run that would start from another checkpoint.
    """
    folder = Path(os.path.abspath(folder))
    known = read_plan(folder) if (folder / PLAN).is_file() else None
    drawn = expand(experiment, known)
    configs = parse_configs(drawn, processes=processes)
    recorded = {run.name: run for run in known.runs} if known else {}
    items = {item.run.name: item for item in drawn}
    for name, item in items.items():
        before = recorded.get(name)
        if item.stage is not None and before is not None and before.weights is not None:
            run = replace(item.run, start=before.start, weights=before.weights)
            items[name] = replace(item, run=run)
            configs[name] = item.config(folder / before.weights)
    here = {identity(item.run) for item in drawn}
    gone = tuple(run for run in (known.runs if known else ()) if identity(run) not in here)
    return Planned(experiment, folder, items, configs, gone)


def refuse_changed(planned: Planned) -> Planned:
    """`planned` with the choices that can be made. Raises ValueError for runs that are other ones than the file says."""
    found = {name: planned.state(name) for name in planned.drawn}
    changed = [f"  {name}: {state.remark}" for name, state in found.items() if state.kind == CHANGED]
    if changed:
        raise ValueError(
            "\n".join(["these runs were trained with other settings than the experiment has now:", *changed])
            + "\nSet these back, or use another --output; to train the runs anew, delete their folders in "
            + str(planned.folder / "runs")
        )
    refused: dict[str, list[str]] = {}
    for name, item in planned.drawn.items():
        if item.candidates and all(found[other].kind == FINISHED for other in item.candidates):
            try:
                planned = with_weights(planned, name)
            except ValueError as error:
                refused.setdefault(str(error), []).append(name)
    if refused:
        raise ValueError("\n".join(f"{', '.join(names)}: {message}" for message, names in refused.items()))
    return planned


def with_weights(planned: Planned, name: str) -> Planned:
    """`planned`, where the run `name` starts from the checkpoint that its stage gives; all runs of the stage are finished.

    Raises ValueError where it has started from another one before.
    """
    item = planned.drawn[name]
    choice = choose({other: planned.run_folder(other) for other in item.candidates}, item.best)
    path = choice.path.relative_to(planned.folder)
    if item.run.weights not in (None, path) and (planned.run_folder(name) / CONFIG).is_file():
        raise ValueError(_other_choice(item, choice, path))
    run = replace(item.run, start=choice.run, weights=path)
    drawn = dict(planned.drawn) | {name: replace(item, run=run)}
    configs = dict(planned.configs) | {name: item.config(choice.path)}
    return replace(planned, drawn=drawn, configs=configs)


def _other_choice(item: Drawn, choice: Choice, path: Path) -> str:
    return (
        f"it was started from {item.run.weights}, but the stage {item.stage} now gives {path} ({choice.reason}). Take out what "
        "was added to the stage, or use another --output; to start from the other checkpoint, delete the folder of the run"
    )


def save(planned: Planned) -> None:
    """Write plan.json and experiment.yaml into the folder."""
    planned.folder.mkdir(parents=True, exist_ok=True)
    write_plan(planned.folder, planned.plan())
    write_atomically(planned.folder / EXPERIMENT, dump_experiment(planned.experiment))
