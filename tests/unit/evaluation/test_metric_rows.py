"""What the rows of the table of metrics say: direction, range, needs, label; and a metric that is added by one row."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.evaluation.metrics import FAMILIES, METRICS, REPORTED, Metric, metric_of, oriented, summarize
from guidance.evaluation.rows import Rows, RowSettings, merge
from guidance.evaluation.statistics import mean
from guidance.evaluation.tables import Scoring, collect
from guidance.pictures.plots import plot_front, plot_samples
from guidance.runs.pareto import Candidate, ParetoFront
from tests.support.rows import random_batch

TOOL = Path(__file__).resolve().parents[3] / "tools" / "select_pareto.py"


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """What a test adds to the table does not stay there."""
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


# The rows


@pytest.mark.parametrize("name", METRICS)
def test_values_lie_in_the_range_that_the_row_says(name: str) -> None:
    batch, logits, raw = random_batch(12)
    regions = batch.regions._replace(never=torch.rand(batch.regions.mask.shape) > 0.7)
    masks = {"stage3": (torch.rand(12, 1, 2, 2) > 0.5).float()}
    scores = {score: torch.rand(len(raw)) for score in METRICS if "all scores" in METRICS[score].needs}
    tables = collect(batch._replace(regions=regions), logits, raw, masks, scoring=Scoring(more=lambda *_: scores))
    rows = merge([tables], RowSettings(group_names=("a", "b", "c"), training_groups=(5, 3, 2), fixed_group=1))
    low, high = METRICS[name].range
    assert low <= summarize(rows)[name] <= high


def test_what_a_metric_needs_is_left_out_where_it_was_not_asked_for() -> None:
    METRICS["mine"] = Metric(lambda rows: mean(rows.more["pixel_f1"].tolist()), needs=("all scores",))
    rows = merge([collect(*random_batch(4))], RowSettings())
    assert "mine" not in summarize(rows)
    held = replace(rows, more={n: rows.epg for n, row in METRICS.items() if "all scores" in row.needs and n != "mine"})
    assert summarize(held)["mine"] == summarize(held)["pixel_f1"]


def test_every_number_of_an_evaluation_has_a_row() -> None:
    assert metric_of("f1").label == "F1"
    assert metric_of("precision").label == "precision"
    for name in ("skipped", "dropped", "clipped", "iou_threshold", "worst_group_images", "epg_chance"):
        assert metric_of(name).higher_is_better is None
    for name in ("sparsity", "sparsity/stage2", "sparsity_merged", "zero_maps", "never_energy", "classification"):
        assert metric_of(name).higher_is_better is False
    for name in ("accuracy_group/land/water", "ap_class/bird", "unknown", "sparsity_of_mine"):
        assert (metric_of(name).higher_is_better, metric_of(name).label) == (True, name)
    assert metric_of("accuracy_group/land/water").needs == ("groups",)
    rows = merge([collect(*random_batch(2))], RowSettings())
    assert all(math.isnan(row.function(rows)) for row in (*REPORTED.values(), *FAMILIES.values()))


def test_values_are_turned_so_that_larger_is_better() -> None:
    METRICS["seconds"] = Metric(lambda rows: 1.0, higher_is_better=False, range=(0.0, math.inf))
    METRICS["distance"] = Metric(lambda rows: 1.0, higher_is_better=False, range=(-1.0, 3.0))
    assert oriented("f1", 0.3) == 0.3
    assert oriented("never_energy", 0.3) == oriented("sparsity/stage2", 0.3) == 1.0 - 0.3
    assert oriented("seconds", 0.3) == -0.3
    assert oriented("distance", 3.0) == -1.0
    front = ParetoFront(("f1", "seconds"), resolution=0.0)
    for name, (f1, seconds) in {"a": (0.5, 40.0), "b": (0.5, 30.0), "c": (0.6, 35.0), "d": (0.4, 50.0)}.items():
        front.offer(Candidate(name, {"f1": f1, "seconds": seconds}))
    assert [member.name for member in front.members] == ["b", "c"]


# A metric that is added by a row


def wrongness(rows: Rows) -> float:
    """Mean probability of the classes that a sample does not show, in [0, 1]."""
    return mean((rows.logits.softmax(1) * ~rows.targets).sum(1).tolist())


def select(folder: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("select_pareto", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main([str(folder)]) == 0
    content: dict[str, Any] = json.loads((folder / "front.json").read_text())
    return content


def test_an_added_metric_that_is_better_lower_selects(settings: Callable[..., Config], tmp_path: Path) -> None:
    """In the config, the front of the run, and the merged front."""
    METRICS["mine"] = Metric(wrongness, "wrongness", higher_is_better=False)
    config = settings(pareto={"metrics": ["mine"], "resolution": 0.0}, log={"tensorboard": False})
    assert build_trainer(config, tmp_path / "run", torch.device("cpu")).fit()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = {line["epoch"]: line["val/mine"] for line in lines if "val/mine" in line}
    assert len(set(values.values())) == 3
    best = min(values, key=lambda epoch: values[epoch])
    (kept,) = (tmp_path / "run" / "checkpoints" / "pareto").iterdir()
    assert kept.name == f"epoch_{best:04d}.pt"
    found = select(tmp_path / "run")
    assert (found["metrics"], [m["epoch"] for m in found["members"]]) == (["mine"], [best])
    assert found["members"][0]["metrics"]["mine"] == values[best]
    assert found["hypervolume"] == pytest.approx(1 - values[best])


def test_settings_are_held_against_what_an_added_metric_needs(settings: Callable[..., Config]) -> None:
    wanted = {"pareto": {"metrics": ["f1", "mine"]}}
    METRICS["mine"] = Metric(wrongness, needs=("depth maps",))
    with pytest.raises(ValueError, match=r"pareto.metrics\[1\]: mine needs depth maps, which demo does not have"):
        settings(**wanted)
    METRICS["mine"] = Metric(wrongness, needs=("all scores",))
    with pytest.raises(ValueError, match=r"mine is only computed with evaluation.scores: all"):
        settings(**wanted)
    METRICS["mine"] = Metric(wrongness, higher_is_better=None)
    with pytest.raises(ValueError, match="mine says nothing about how good a net is"):
        settings(**wanted)
    METRICS["mine"] = Metric(wrongness, higher_is_better=False)
    with pytest.raises(ValueError, match=r"early_stop\.metric: more mine is not better"):
        settings(**wanted, trainer={"early_stop": {"metric": "mine"}})


def test_pictures_turn_the_axis_of_an_added_metric() -> None:
    METRICS["mine"] = Metric(wrongness, "wrongness", higher_is_better=False)
    runs = {"a": [Candidate("e1", {"f1": 0.9, "mine": 0.4}), Candidate("e2", {"f1": 0.5, "mine": 0.1})]}
    (axes,) = plot_front(runs, [("a", "e1"), ("a", "e2")], ["f1", "mine"]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("F1", "wrongness (lower is better)")
    assert (axes.xaxis.get_inverted(), axes.yaxis.get_inverted()) == (False, True)
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 0.1], [0.9, 0.4]]
    (axes,) = plot_samples([0.1, 0.2], [0.3, 0.1], "mine").axes
    assert axes.get_title() == "wrongness higher for 50.0 % of 2 samples, lower is better"
