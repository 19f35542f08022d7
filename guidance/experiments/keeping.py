"""What is kept of the finished runs of an experiment, and how much disk they take.

`all`: every file, so that a run can be trained for more epochs. `front`: last.pt loses the state of its optimizer, and with it
that possibility; all checkpoints stay. `best`: so it does, and of the front only those checkpoints stay that are the best of
their run, on validation, in a metric of the front. The front of a stage always stays, because runs that are added later may
start from any of it; so do logs, metrics and results. Nothing is removed before the run is evaluated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from guidance.assembly import build_classifier, build_optimizer, parameter_groups
from guidance.config import Config
from guidance.evaluation.metrics import oriented
from guidance.experiments.definition.schema import ALL, BEST
from guidance.experiments.estimates import Split
from guidance.experiments.planning import Planned
from guidance.runs.front_folder import read_candidates
from guidance.runs.locks import lock_folder
from guidance.runs.paths import CHECKPOINTS, front_folder
from guidance.runs.shedding import disk_use, shed

LOG = logging.getLogger(__name__)
# What decides nothing about the size of a checkpoint, so that few nets are built.
FREE: dict[str, Any] = dict.fromkeys(
    ("seed", "data", "objective", "schedule", "trainer", "evaluation", "pareto", "log"), True
)
FREE |= {"model": {"weights"}, "optimizer": {"lr", "weight_decay"}}
MEMBERS = 3  # checkpoints that are assumed on a front before a run of the experiment has told


def prune(planned: Planned, name: str) -> None:
    """Remove of a finished and evaluated run what the experiment does not keep. What cannot be pruned is told, and kept."""
    keep, item, folder = planned.experiment.keep, planned.drawn[name], planned.run_folder(name)
    if keep == ALL:
        return
    try:
        with lock_folder(folder) or nullcontext():  # somebody may be looking whether it can go on
            shed(folder)
            if keep == BEST and item.run.group not in planned.experiment.stages:
                keep_best(front_folder(folder), planned.configs[name].pareto.metrics)
    except (ValueError, OSError) as error:
        LOG.warning("%s is kept as it is: %s", name, error)


def keep_best(front: Path, metrics: Sequence[str]) -> None:
    """Delete the checkpoints of a front that are the best in none of the metrics; the earliest of equals stays.

    What stays does not depend on how many were deleted before. A front on which no metric is defined stays.
    """
    saved = read_candidates(front)
    best = set()
    for metric in metrics:
        known = [each for each in saved if not math.isnan(each.candidate.values.get(metric, math.nan))]
        if known:
            best.add(max(known, key=lambda each: oriented(metric, each.candidate.values[metric])).path)
    for each in saved:
        if best and each.path not in best:
            each.path.unlink(missing_ok=True)


class Disk(NamedTuple):
    """What a run takes, in bytes."""

    finished: float  # when it is finished and pruned
    extra: float = 0.0  # beside that, while it trains: its optimizer, and last.pt a second time while it is written


def disk_of_runs(
    planned: Planned, finished: Mapping[str, bool], splits: Callable[[Config], Split | str]
) -> dict[str, Disk]:
    """What each run takes: a finished one what it does, another what it will; NaN where the data are not there.

    That is computed from its net and its optimizer. The size of its front, and of its logs, is the mean of the finished runs
    of its group, else of all, else `MEMBERS` checkpoints and nothing.
    """
    seen = {name: _measured(planned.run_folder(name)) for name, is_finished in finished.items() if is_finished}
    sizes: dict[tuple[str, str, int], tuple[int, int]] = {}
    found = {}
    for name, config in planned.configs.items():
        split = splits(config)
        if name in seen:
            found[name] = Disk(disk_use(planned.run_folder(name)))
        elif isinstance(split, str):
            found[name] = Disk(math.nan, math.nan)
        else:
            key = (config.model_dump_json(exclude=FREE), config.objective.mode, split.classes)
            if key not in sizes:
                sizes[key] = checkpoint_bytes(config, split.classes)
            group = [seen[other] for other in seen if planned.drawn[other].run.group == planned.drawn[name].run.group]
            found[name] = _expected(planned, name, sizes[key], group or list(seen.values()))
    return found


def _measured(folder: Path) -> tuple[int, int]:
    """Checkpoints on the front of a run, and bytes of all that are no checkpoints."""
    return len(list(front_folder(folder).glob("*.pt"))), disk_use(folder) - disk_use(folder / CHECKPOINTS)


def _expected(planned: Planned, name: str, size: tuple[int, int], known: Sequence[tuple[int, int]]) -> Disk:
    config, (weights, optimizer), keep = planned.configs[name], size, planned.experiment.keep
    members = fmean(count for count, _ in known) if known else MEMBERS
    if keep == BEST and planned.drawn[name].run.group not in planned.experiment.stages:
        members = min(members, len(config.pareto.metrics))
    members = min(members, config.trainer.epochs)
    last = weights + (optimizer if keep == ALL else 0)
    logs = fmean(size for _, size in known) if known else 0
    return Disk(last + members * weights + logs, 2 * (weights + optimizer) - last)


def checkpoint_bytes(config: Config, classes: int) -> tuple[int, int]:
    """Bytes of the weights of a net of so many classes, and of the state of its optimizer, which a step makes."""
    model = build_classifier(config, classes, pretrained=False).to("meta")
    optimizer, _ = build_optimizer(config, parameter_groups(config, model), 1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values()]
    return _bytes(model.state_dict().values()), _bytes(held)


def _bytes(values: Iterable[Any]) -> int:
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def size(count: float) -> str:
    """For people, in decimal units as disks have them: "45 MB", "2.1 GB"."""
    if math.isnan(count):
        return "unknown"
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.{0 if count >= 10 * factor else 1}f} {unit}"
    return f"{count / 1e3:.0f} KB"
