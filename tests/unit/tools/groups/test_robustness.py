"""The command that draws metrics against a setting of a sweep."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

from guidance.results.plan_file import Group, Plan, PlannedRun, write_plan
from tests.support.checkpoints import write_epochs
from tools import fronts as tool


def write(folder: Path, runs: list[tuple[str, dict[str, Any], list[tuple[float, ...]], float]]) -> Path:
    """(group, config, rows of f1 and epg, speed) of each run."""
    planned = []
    for i, (group, config, rows, speed) in enumerate(runs):
        write_epochs(folder / f"runs/{i}", rows, config=config, metrics=("f1", "epg"), speed=speed)
        planned.append(PlannedRun(f"{group}/{i}", group, config["seed"], Path(f"runs/{i}")))
    names = dict.fromkeys(group for group, *_ in runs)
    write_plan(folder, Plan("R8", tuple(Group(name, name, name == "base") for name in names), tuple(planned)))
    return folder


def config(seed: int, loss: str = "energy", weight: float = 0.1, **data: Any) -> dict[str, Any]:
    return {"seed": seed, "data": data, "pareto": {"metrics": ["f1", "epg"]},
            "objective": {"localization": {"loss": loss, "weight": weight}, "attribution": {"depth": "input"}}}  # fmt: skip


def lines(folder: Path, setting: str) -> list[dict[str, str]]:
    with open(folder / f"robustness_{setting}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_over_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups that differ in the setting are one curve for each loss; seeds are averaged, weights chosen from."""
    runs = [("base", config(seed, weight=0.0, dilation=0.0), [(0.8 + seed / 10, 0.2)], 9.0) for seed in (0, 1)]
    for loss, fall in (("energy", 0.0), ("l1", 0.4)):
        for dilation in (0.5, 0.0):
            for seed in (0, 1):
                epg = 0.6 - fall * dilation + seed / 10
                rows: list[tuple[float, ...]] = [(0.9, 0.1), (0.7, epg), (0.1, epg + 0.01)]
                runs.append((f"{loss}_{dilation}", config(seed, loss, dilation=dilation), rows, 9.0))
                runs.append((f"{loss}_{dilation}", config(seed, loss, 0.5, dilation=dilation), [(0.6, 0.1)], 9.0))
    write(tmp_path, runs)
    assert tool.main([str(tmp_path), "--over", "data.dilation"]) == 0
    found = lines(tmp_path, "data.dilation")
    assert [(row["series"], row["data.dilation"], row["runs"], row["f1_seeds"]) for row in found] == [
        ("energy", "0.0", "4", "2"), ("energy", "0.5", "4", "2"), ("l1", "0.0", "4", "2"), ("l1", "0.5", "4", "2"),
        ("baseline", "", "2", "2"),
    ]  # fmt: skip
    assert [float(row["epg"]) for row in found] == pytest.approx([0.65, 0.65, 0.65, 0.45, 0.2])
    assert [float(row["epg_deviation"]) for row in found[:4]] == pytest.approx([0.1 / 2**0.5] * 4)
    assert [float(row["f1"]) for row in found] == pytest.approx([0.7] * 4 + [0.85])  # of the knee
    assert "R8, val split, at knee" in capsys.readouterr().out
    assert image.imread(tmp_path / "robustness_data.dilation.png").shape[1] > 900
    assert tool.main([str(tmp_path), "--over", "data.dilation", "--at", "best:f1"]) == 0
    assert [float(row["f1"]) for row in lines(tmp_path, "data.dilation")[:4]] == [0.9] * 4
    assert [float(row["epg"]) for row in lines(tmp_path, "data.dilation")[:4]] == [0.1] * 4


def test_over_depths_with_the_measured_speed(tmp_path: Path) -> None:
    runs = []
    for depth, speed in (("final", 200.0), ("mid2", 150.0), ("input", 100.0)):
        for seed in (0, 1):
            settings = config(seed)
            settings["objective"]["attribution"]["depth"] = depth
            runs.append((f"energy_{depth}", settings, [(0.7, 0.5)], speed + 10 * seed))
    runs.append((runs[-1][0], runs[-1][1] | {"seed": 0}, [(0.6, 0.4)], math.nan))
    write(tmp_path, runs)
    assert tool.main([str(tmp_path), "--over", "objective.attribution.depth"]) == 0
    found = lines(tmp_path, "objective.attribution.depth")
    assert [(row["series"], row["objective.attribution.depth"]) for row in found] == [
        ("energy", "input"), ("energy", "mid2"), ("energy", "final")
    ]  # fmt: skip
    assert [float(row["images_per_second"]) for row in found] == [105.0, 155.0, 205.0]
    assert [float(row["images_per_second_deviation"]) for row in found] == pytest.approx([50**0.5] * 3)


def test_over_thresholds_of_stages(tmp_path: Path) -> None:
    """What is no number stands in the order of its text; of one seed there is no deviation."""
    runs = [
        ("aim", {"seed": 0, "aim": {"threshold": threshold}, "objective": {"mode": "aim"}}, [(0.5, epg)], 1.0)
        for threshold, epg in (([0.3, 0.4], 0.3), (0.25, 0.5), (None, 0.1))
    ]
    write(tmp_path, runs)
    assert tool.main([str(tmp_path), "--over", "aim.threshold", "--metrics", "f1", "epg"]) == 0
    found = lines(tmp_path, "aim.threshold")
    assert [(row["series"], row["aim.threshold"], row["epg"], row["epg_deviation"]) for row in found] == [
        ("AIM", "0.25", "0.5", ""), ("AIM", "None", "0.1", ""), ("AIM", "[0.3, 0.4]", "0.3", "")
    ]  # fmt: skip


def test_groups_of_one_kind_are_not_mixed(tmp_path: Path) -> None:
    """Two groups with the same loss, net and dilations are two curves."""
    runs = [(group, config(0, dilation=dilation), [(0.5, epg)], 1.0)
            for group, epg in (("boxes", 0.5), ("masks", 0.6)) for dilation in (0.0, 0.1)]  # fmt: skip
    write(tmp_path, runs)
    assert tool.main([str(tmp_path), "--over", "data.dilation"]) == 0
    assert [(row["series"], row["epg"]) for row in lines(tmp_path, "data.dilation")] == [
        ("boxes", "0.5"), ("boxes", "0.5"), ("masks", "0.6"), ("masks", "0.6")
    ]  # fmt: skip


def test_mistakes_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, [("energy", config(0, dilation=0.0), [(0.5, 0.5)], 1.0)])
    for arguments, message in (
        (["--over", "data.dilation"], "all runs have data.dilation=0.0, so there is nothing to compare"),
        (["--over", "dilation"], "no config of a run has the setting 'dilation'; it has data.dilation, "),
        (["--over", "data.dilation", "--at", "last"], "--at is 'last'; expected knee or best:METRIC"),
        (["--over", "data.dilation", "--at", "best:map"], "choose among the metrics of the front, f1, epg"),
    ):
        assert tool.main([str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("robustness*"))
