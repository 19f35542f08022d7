"""The report as one HTML file, from an experiment's folder or from run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from guidance.inference import Evaluation
from guidance.results.claims.judging import Verdict
from guidance.results.claims.report import as_row
from guidance.results.html.content import (
    VALIDATION,
    describe,
    describe_metrics,
    plan_of_folders,
    point,
    started,
)
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
    experiment = len(paths) == 1 and (paths[0] / PLAN).is_file()
    plan = read_plan(paths[0]) if experiment else plan_of_folders(paths)
    runs = started(plan)
    content = describe(plan, runs)
    picked = pick(runs, content, choices.detailed)
    found = evaluate_runs(picked, choices.split, device)
    _add_points(content, found, choices.split)
    detail = None
    if picked:
        detail = describe_detail(picked, found, choices.images, device)
        detail |= {"split": choices.split, "runs": [run.name for run in picked]}
    return content | {"detail": detail, "claims": [], "metrics": describe_metrics(content)}, found


def _add_points(content: dict[str, Any], found: dict[str, Evaluation], split: str) -> None:
    """What was just evaluated is a point of the split, in place of an older one of the same epoch."""
    if split in ("val", VALIDATION):
        return  # the log has it
    for run in content["runs"]:
        if run["name"] not in found:
            continue
        each = found[run["name"]]
        new = point(each.settings["epoch"], each.metrics)
        table = run["points"].setdefault(split, {"epoch": [], "values": {}})
        if new["epoch"] not in table["epoch"]:
            table["epoch"].append(new["epoch"])
            for column in table["values"].values():
                column.append(None)
        place = table["epoch"].index(new["epoch"])
        for name in new["metrics"].keys() - table["values"].keys():
            table["values"][name] = [None] * len(table["epoch"])
        for name, column in table["values"].items():
            column[place] = new["metrics"].get(name)


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
