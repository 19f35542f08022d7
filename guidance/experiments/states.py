"""How far a run of an experiment has come, as its folder tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.config import Config, free_on_resume, load_config, parse_config
from guidance.experiments.outcomes import CHANGED, FAILED, FINISHED, INTERRUPTED, NEW, Outcome
from guidance.runs import checkpoint
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import CONFIG, METRICS, last_checkpoint
from guidance.runs.settings import differences
from guidance.runs.shedding import is_shed
from guidance.training.options import Minimum

WEIGHTS = "model.weights"


@dataclass(frozen=True)
class RunState:
    """How far a run has come."""

    kind: str  # one of the above
    epoch: int = 0  # whole epochs that its last checkpoint has seen
    step: int = 0
    remark: str = ""  # what differs, or what went wrong


def state_of(folder: Path, config: Config, outcome: Outcome | None = None) -> RunState:
    """The state of the run in `folder`, which should be that of `config`. `outcome`: how its latest start ended.

    ValueError for a config or checkpoint that cannot be read.
    """
    if not (folder / CONFIG).is_file():
        if outcome is not None and outcome.kind == FAILED:
            return RunState(FAILED, remark=outcome.remark)
        return RunState(NEW)
    different = changes(folder, config)
    if different:
        return RunState(CHANGED, remark="; ".join(different))
    path = last_checkpoint(folder)
    if not path.exists():
        kind = FAILED if outcome is not None and outcome.kind == FAILED else INTERRUPTED
        return RunState(kind, remark=outcome.remark if outcome is not None else "")
    state = checkpoint.read(path, verify=False)
    epoch, step = state["epoch"], state["step"]
    if epoch >= config.trainer.epochs or _gave_up(config, state):
        return RunState(FINISHED, epoch, step)
    if is_shed(state):
        ends = f"{epoch} epochs trained, {config.trainer.epochs} in the experiment"
        return RunState(
            CHANGED, epoch, step, f"{ends}; it cannot go on, because `keep` was not all when it had finished"
        )
    if outcome is not None and outcome.kind == FAILED:
        return RunState(FAILED, epoch, step, outcome.remark)
    return RunState(INTERRUPTED, epoch, step)


def _gave_up(config: Config, state: Mapping[str, Any]) -> bool:
    """Whether trainer.early_stop has ended the run."""
    stop, trained = config.trainer.early_stop, state.get("trainer")
    if stop is None or not isinstance(trained, dict) or trained.get("position") != 0:
        return False
    return Minimum(stop.metric, stop.minimum, stop.epochs).missed(state["epoch"], trained.get("best", {}))


def changes(folder: Path, config: Config) -> list[str]:
    """What a run in `folder` would have to be another run for: settings that differ and are not free on resume.

    An experiment may be moved: the weights that a run started from are the same where they are the same file of it.
    """
    stored = load_config(folder / CONFIG)
    found = differences(stored.model_dump(mode="json"), config.model_dump(mode="json"), ignore=free_on_resume(config))
    return [
        f"{key}: {before} in the folder, {now} in the experiment"
        for key, before, now in found
        if not (key == WEIGHTS and _same_file_of_an_experiment(str(before), str(now)))
    ]


def _same_file_of_an_experiment(before: str, now: str) -> bool:
    # .../runs/<group>/<number>/checkpoints/pareto/<file>, or .../runs/<group>/<number>/checkpoints/last.pt
    parts = [Path(path).parts for path in (before, now)]
    lengths = [len(p) - p.index("checkpoints") + 3 if "checkpoints" in p else 0 for p in parts]
    return lengths[0] == lengths[1] > 0 and parts[0][-lengths[0] :] == parts[1][-lengths[1] :]


def config_to_resume(folder: Path, config: Config) -> Config:
    """`config`, with the weights that the run in `folder` has started from under the name that they had then."""
    if not (folder / CONFIG).is_file():
        return config
    content = config.model_dump(mode="json")
    content["model"]["weights"] = load_config(folder / CONFIG).model.weights
    return parse_config(content)


def epochs_logged(folder: Path) -> int:
    """The last whole epoch in the log of a run, which may be running."""
    path = folder / METRICS
    if not path.is_file():
        return 0
    return int(max((line["epoch"] for line in read_log(path) if "epoch" in line), default=0))
