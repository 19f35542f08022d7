"""The report as one HTML file, from an experiment's folder or from run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from guidance.inference import Evaluation
from guidance.results.claims.judging import Verdict
from guidance.results.claims.report import as_row
from guidance.results.groups.epochs import VAL, ExperimentRuns, RunEpoch, read_experiment
from guidance.results.html.content import describe, describe_metrics, plan_of_folders
from guidance.results.html.fronts import describe_fronts, describe_panels, front_metrics
from guidance.results.html.page import write_page
from guidance.results.plan_file import PLAN, read_plan

from .detail import describe_detail, evaluate_runs, pick


class Choices(NamedTuple):
    """What the report holds."""

    split: str = "test"
    images: int = 6
    detailed: int = 12  # runs whose nets are loaded, for maps, masks and rows of single images


def write_html(
    paths: Sequence[Path], output: Path, choices: Choices, device: torch.device, verdicts: Sequence[Verdict] = ()
) -> dict[str, Evaluation]:
    """Write the page to `output`; returns what the detailed runs reached on the split. ValueError without Plotly."""
    plotly = plotly_script()
    content, found = describe_report(paths, choices, device)
    content |= {"claims": [as_row(verdict) for verdict in verdicts]}
    size = write_page(output, content, plotly=plotly)
    print(f"{output}: {len(content['runs'])} runs, maps of {len(found)}, {size / 1e6:.1f} MB")
    return found


def describe_report(
    paths: Sequence[Path], choices: Choices, device: torch.device
) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    """What the page shows (see template/state.js), and the evaluations of the detailed runs by their names."""
    plan = read_plan(paths[0]) if len(paths) == 1 and (paths[0] / PLAN).is_file() else plan_of_folders(paths)
    experiment = read_experiment(plan)
    picked = pick(experiment, front_metrics(experiment), choices.detailed)
    found = evaluate_runs(picked, choices.split, device)
    experiment = with_evaluations(experiment, found, choices.split)
    content = describe(experiment)
    detail = None
    if picked:
        detail = describe_detail(picked, found, choices.images, device)
        detail |= {"split": choices.split, "runs": [run.name for run in picked]}
    more = {"fronts": describe_fronts(experiment), "panels": describe_panels(experiment)}
    return content | more | {"detail": detail, "claims": [], "metrics": describe_metrics(content)}, found


def with_evaluations(experiment: ExperimentRuns, found: Mapping[str, Evaluation], split: str) -> ExperimentRuns:
    """What was just evaluated belongs to the epochs, in place of what was written; of validation the log has everything.

    A checkpoint in the middle of an epoch is an epoch of its own, which is on no front.
    """
    if split == VAL:
        return experiment
    runs = []
    for run in experiment.runs:
        each = found.get(run.planned.name)
        if each is not None:
            place = int(each.settings["epoch"]), int(each.settings["step"])
            known = [epoch for epoch in run.epochs if (epoch.epoch, epoch.step) == place]
            mine = known[0] if known else RunEpoch(run.planned.name, run.planned.group, run.seed, *place, {})
            mine = replace(mine, metrics={**mine.metrics, split: each.metrics})
            others = [epoch for epoch in run.epochs if (epoch.epoch, epoch.step) != place]
            run = replace(run, epochs=tuple(sorted([*others, mine], key=lambda epoch: (epoch.epoch, epoch.step))))
        runs.append(run)
    return replace(experiment, runs=tuple(runs))


def plotly_script() -> str:
    """The text of Plotly's script."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ValueError(
            "--html draws with Plotly, which is not installed: pip install 'guidance[report]', or pip install plotly"
        ) from error
    script: str = get_plotlyjs()
    return script
