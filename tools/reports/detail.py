"""What the report shows of single images: it loads nets, so it is done for some runs of an experiment only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from guidance.assembly import build_attribution, build_evaluation_dataset
from guidance.assembly.sets import encoding
from guidance.data import Source
from guidance.evaluation.metrics import oriented
from guidance.inference import Evaluation, Run, evaluate_in_detail, load_run
from guidance.maps import merged_mask
from guidance.pictures.probe import Probe, spread
from guidance.results.groups.epochs import VAL, ExperimentRuns, GroupRun
from guidance.results.html.boxes import bin_labels, boxes_by_size
from guidance.results.html.gallery import Explained, answers, describe_gallery, describe_strip, worst_group
from guidance.results.plan_file import PlannedRun
from guidance.runs.front_folder import SUFFIX
from guidance.runs.paths import front_folder, last_checkpoint

STRIP_EPOCHS, STRIP_IMAGES = 10, 4  # at most, of the masks of a run


def pick(experiment: ExperimentRuns, metrics: Sequence[str], count: int) -> list[PlannedRun]:
    """Up to `count` runs that have a checkpoint, one of each group after the other; in a group the most balanced first.

    Balanced: the smallest of the `metrics` that the runs select by is largest at the last epoch, each compared in the group.
    """
    groups: dict[str, list[GroupRun]] = {}
    for run in experiment.runs:
        if run.epochs and latest(run.planned.folder) is not None:
            groups.setdefault(run.planned.group, []).append(run)
    queues = [_balanced(members, metrics) for members in groups.values()]
    rounds = max(map(len, queues), default=0)
    return [queue[i].planned for i in range(rounds) for queue in queues if i < len(queue)][:count]


def _balanced(members: list[GroupRun], metrics: Sequence[str]) -> list[GroupRun]:
    ranks = [len(members)] * len(members)
    for metric in metrics:
        finals = [oriented(metric, run.epochs[-1].metrics.get(VAL, {}).get(metric, math.nan)) for run in members]
        ranks = [min(rank, sum(value < own for value in finals)) for rank, own in zip(ranks, finals, strict=True)]
    return [members[i] for i in sorted(range(len(members)), key=lambda i: -ranks[i])]


def latest(folder: Path) -> Path | None:
    """The last checkpoint of a run, or the newest of its front where that was pruned."""
    last, front = last_checkpoint(folder), sorted(front_folder(folder).glob(f"*{SUFFIX}"))
    return last if last.is_file() else front[-1] if front else None


def describe_detail(
    runs: Sequence[PlannedRun], evaluations: Mapping[str, Evaluation], images: int, device: torch.device
) -> dict[str, Any]:
    """Gallery, masks and box plots of the `runs`, whose `evaluations` on a split are given by their names.

    The gallery holds `images` images; where the data set has groups, as many of the worst one, and one or more of each other.
    Runs whose images are not those of the first are left out of it, which a note says.
    """
    first = evaluations[runs[0].name]
    notes, explained, strips = [], {}, {}
    worst = worst_group(first.source.groups, [each.metrics for each in evaluations.values()])
    indices = _indices(first, images, None if worst is None else worst[0])
    shown: Probe | None = None
    for run in runs:
        if not _same_images(evaluations[run.name], first):
            notes.append(f"Without {run.name}, which has other classes, images or an other image size.")
            continue
        net = load_run(latest(run.folder) or run.folder, device=device)
        probe = _probe(net, evaluations[run.name].source, indices)
        if probe is None:
            continue
        shown = shown or probe
        explained[run.name] = _explain(net, probe, device)
        if probe.masks(net.model, device=device):
            strips[run.name] = _strip(run, net, probe, device)
    rows = describe_gallery(shown, first.source, explained) if shown is not None else []
    number, accuracy = worst or (None, None)
    gallery = {"groups": list(first.source.groups), "worst": number, "worst_accuracy": accuracy, "rows": rows}
    return {"gallery": gallery, "strips": strips, "boxes": _boxes(runs, evaluations), "notes": notes}


def _indices(found: Evaluation, images: int, worst: int | None) -> list[int]:
    """Positions of the images of the gallery in the split."""
    dataset = build_evaluation_dataset(found.config, found.source)
    if not found.source.groups:
        return spread(dataset, images)
    each = max(1, images // len(found.source.groups))
    numbers = range(len(found.source.groups))
    return [i for g in numbers for i in spread(dataset, images if g == worst else each, group=g)]


def _same_images(found: Evaluation, first: Evaluation) -> bool:
    def key(each: Evaluation) -> tuple[Any, ...]:
        config = each.config
        files = [record.path for record in each.source.records]
        return each.source.classes, files, config.data.image_size, config.evaluation.crop, config.evaluation.region

    return key(found) == key(first)


def _probe(net: Run, source: Source, indices: Sequence[int]) -> Probe | None:
    dataset = build_evaluation_dataset(net.config, source)
    return Probe.of(dataset, indices, encoding=encoding(net.config))


def _explain(net: Run, probe: Probe, device: torch.device) -> Explained:
    method, depth = build_attribution(net.config)
    maps = probe.maps(net.model, attribution=method, depth=depth, device=device)
    with torch.no_grad():
        logits = net.model(probe.batch.images.to(device)).logits
    return Explained(maps, answers(logits, probe.batch.targets, net.classes, exclusive=net.config.objective.exclusive))


def _strip(run: PlannedRun, net: Run, probe: Probe, device: torch.device) -> dict[str, Any]:
    """The masks at the epochs whose checkpoints exist, spread evenly where there are many, and at the last one."""
    files = sorted(front_folder(run.folder).glob(f"epoch_*{SUFFIX}"))
    saved = {int(path.stem.removeprefix("epoch_")): path for path in files if path.stem[6:].isdigit()}
    epochs = [epoch for epoch in saved if epoch != net.epoch]
    step = max(1, -(-len(epochs) // (STRIP_EPOCHS - 1)))
    masks = {
        e: merged_mask(probe.masks(load_run(saved[e], device=device).model, device=device)) for e in epochs[::step]
    }
    return describe_strip(masks | {net.epoch: merged_mask(probe.masks(net.model, device=device))}, STRIP_IMAGES)


def _boxes(runs: Sequence[PlannedRun], evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    tables = {run.name: evaluations[run.name].table() for run in runs}
    groups = {group: [tables[run.name] for run in runs if run.group == group] for group in {run.group for run in runs}}
    found = {
        "groups": {name: boxes_by_size(each) for name, each in groups.items()},
        "runs": {name: boxes_by_size([table]) for name, table in tables.items()},
    }
    located = any(box for scores in found["runs"].values() for boxes in scores.values() for box in boxes)
    return found | {"labels": bin_labels() if located else []}


def evaluate_runs(runs: Sequence[PlannedRun], split: str, device: torch.device) -> dict[str, Evaluation]:
    """The last checkpoint of each run on a split, by the names of the runs."""
    found = {}
    for number, run in enumerate(runs, 1):
        print(f"{number}/{len(runs)} {run.name}", flush=True)
        found[run.name] = evaluate_in_detail(latest(run.folder) or run.folder, split, device=device)
    return found
