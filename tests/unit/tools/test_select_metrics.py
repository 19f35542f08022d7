"""Fronts by the metrics that are chosen: directions, undefined values, and what the configs of the runs say."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.runs.checkpoint import save
from tests.support.checkpoints import front, write_run
from tools import select_pareto as tool


def test_metrics_and_resolution_can_be_chosen(runs: Path, tmp_path: Path) -> None:
    arguments = [str(runs / "baseline"), str(runs / "guided"), "--output", str(tmp_path / "out")]
    assert tool.main([*arguments, "--metrics", "epg"]) == 0
    assert [(m["run"], m["epoch"]) for m in front(tmp_path / "out")["members"]] == [("guided", 3)]
    assert tool.main([*arguments, "--metrics", "f1", "epg", "--resolution", "0.4"]) == 0
    # 0.9 and 0.85 are both 0.8 now, and so are 0.7 and 0.8.
    assert [(m["run"], m["epoch"]) for m in front(tmp_path / "out")["members"]] == [("guided", 1)]
    assert not (runs / "front.json").exists()


def test_settings_come_from_the_configs_of_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"pareto": {"metrics": ["map", "epg"], "resolution": 0.5}}
    first = write_run(tmp_path / "a", (0.1, 0.6, 0.3), (0.2, 0.7, 0.4), config=config)
    assert tool.main([str(first)]) == 0
    assert front(tmp_path / "a")["metrics"] == ["map", "epg"]
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [1]  # equal at this resolution: the earliest
    second = write_run(tmp_path / "b", (0.1, 0.1, 0.1))
    capsys.readouterr()
    assert tool.main([str(first), str(second)]) == 2
    assert "the configs of the runs differ in pareto.metrics (a: ['map', 'epg']; b: ['f1', 'epg', 'iou']" in (
        error := capsys.readouterr().err
    )
    assert "choose with --metrics" in error
    assert tool.main([str(first), str(second), "--metrics", "map", "--resolution", "0"]) == 0
    assert (tmp_path / "front.csv").exists()


def test_what_is_not_known_is_not_on_the_front_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Epoch 1 has the best EPG, and no F1; nothing dominates epoch 3, of which nothing is known."""
    nan = math.nan
    write_run(tmp_path / "a", (nan, 0.5, nan), (0.5, 0.4, 0.1), (nan, nan, nan))
    assert tool.main([str(tmp_path / "a")]) == 0
    content = front(tmp_path / "a")
    assert [m["epoch"] for m in content["members"]] == [2]
    assert [(m["epoch"], m["metrics"]["f1"]) for m in content["others"]] == [(1, None), (3, None)]
    assert content["hypervolume"] == pytest.approx(0.02)
    said = "not on the front, because a metric has no value (NaN): a, epoch 1: f1, iou; a, epoch 3: f1, epg, iou\n"
    assert said in capsys.readouterr().out
    write_run(tmp_path / "b", (nan, 0.5, 0.5), (0.5, nan, 0.5), (0.5, 0.5, nan))
    assert tool.main([str(tmp_path / "b")]) == 2
    assert "no checkpoint has a value of each of f1, epg, iou, so there is no front" in capsys.readouterr().err


def write_lower(folder: Path, *rows: tuple[float, float]) -> Path:
    """One checkpoint per row of f1 and never_energy, which is better lower."""
    for epoch, (f1, never) in enumerate(rows, start=1):
        content = {"config": {}, "classes": [], "model": {"weight": torch.zeros(2)}, "epoch": epoch, "step": epoch}
        save(
            folder / f"epoch_{epoch:04d}.pt",
            content | {"metrics": {"f1": f1, "never_energy": never, "epg_chance": 0.1}},
        )
    return folder


def test_a_metric_that_is_better_lower_is_minimised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lower(tmp_path / "a", (0.5, 0.4), (0.5, 0.2), (0.8, 0.3), (0.7, 0.9))
    assert tool.main([str(tmp_path / "a"), "--metrics", "f1", "never_energy"]) == 0
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [3, 2]
    volume = 0.8 * 0.7 + 0.5 * 0.8 - 0.5 * 0.7
    assert front(tmp_path / "a")["hypervolume"] == pytest.approx(volume)
    text = f"f1, never_energy from 0 (of never_energy, which is better lower, 1 less the value): {volume:.4f}"
    assert text in capsys.readouterr().out
    assert tool.main([str(tmp_path / "a"), "--metrics", "never_energy"]) == 0
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [2]
    capsys.readouterr()
    assert tool.main([str(tmp_path / "a"), "--metrics", "epg_chance"]) == 2
    assert "epg_chance says nothing about how good a net is" in capsys.readouterr().err


def test_metrics_without_a_value_do_not_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of runs without boxes: a front over what there is, which says so; without anything, an error."""
    write_run(tmp_path / "a", (0.5, math.nan, math.nan), (0.7, math.nan, math.nan))
    assert tool.main([str(tmp_path / "a")]) == 0
    captured = capsys.readouterr()
    assert "without epg, iou: no checkpoint has a value; EPG and IoU need images with a region" in captured.err
    assert "nan" not in captured.out
    assert "hypervolume over f1 from 0: 0.7000" in captured.out
    assert front(tmp_path / "a")["metrics"] == ["f1"]
    assert tool.main([str(tmp_path / "a"), "--metrics", "epg", "iou", "--output", str(tmp_path / "out")]) == 2
    assert "no checkpoint has a value of epg, iou, so there is no front" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pareto", [{"metrics": 0.5}, {"metrics": ["f1", 1]}, {"metrics": "f1"}, 7])
def test_a_config_that_names_no_metrics_is_told_of(
    tmp_path: Path, pareto: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", (0.5, 0.5, 0.5), config={"pareto": pareto})
    assert tool.main([str(tmp_path / "a")]) == 2
    assert re.search(r"run a: pareto\.metrics of its config is .*; choose with --metrics", capsys.readouterr().err)
    assert tool.main([str(tmp_path / "a"), "--metrics", "f1", "--resolution", "0"]) == 0


def test_the_table_says_what_tells_the_runs_apart(tmp_path: Path) -> None:
    def config(seed: int, weight: float, dilation: float) -> dict[str, Any]:
        localization = {"loss": "energy", "weight": weight, "alpha": 0.5}
        return {
            "seed": seed,
            "data": {"name": "voc", "dilation": dilation},
            "objective": {"localization": localization},
        }

    write_run(tmp_path / "a", (0.5, 0.5, 0.5), config=config(0, 0.1, 0.0))
    write_run(tmp_path / "b", (0.6, 0.4, 0.5), (0.1, 0.1, 0.1), config=config(1, 0.1, 0.5))
    assert tool.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    with open(tmp_path / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = ["run", "epoch", "front", "seed", "data.dilation", "data.name"]
    assert [[row[name] for name in shown] for row in rows] == [
        ["b", "1", "True", "1", "0.5", "voc"], ["a", "1", "True", "0", "0.0", "voc"], ["b", "2", "False", "1", "0.5", "voc"],
    ]  # fmt: skip
    assert {row["objective.localization.loss"] for row in rows} == {"energy"}
    assert {row["objective.localization.weight"] for row in rows} == {"0.1"}
    assert "objective.localization.alpha" not in rows[0]  # the same in all runs, and not among those always shown
    assert front(tmp_path)["members"][0]["settings"]["seed"] == 1
    assert [other["epoch"] for other in front(tmp_path)["others"]] == [2]
