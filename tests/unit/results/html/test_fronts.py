"""The fronts of the page are those of guidance.results.groups, for each pair of metrics and split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from guidance.results.groups.epochs import read_experiment
from guidance.results.groups.group_fronts import Selection, group_fronts
from guidance.results.html.fronts import describe_fronts, describe_panels
from guidance.results.plan_file import Group, Plan, PlannedRun
from tests.support.checkpoints import write_epochs

# group -> seed -> f1, epg, iou of its epochs
ROWS: dict[str, dict[int, list[tuple[float, ...]]]] = {
    "base": {0: [(0.7, 0.2, 0.1), (0.8, 0.1, 0.1)], 1: [(0.7, 0.3, 0.1)]},
    "energy": {0: [(0.6, 0.5, 0.1), (0.4, 0.7, 0.3), (0.4, 0.6, 0.2)], 1: [(0.5, 0.6, 0.2), (0.3, math.nan, 0.9)]},
}


def plan(root: Path, **pareto: dict[str, Any]) -> Plan:
    runs = []
    for group, seeds in ROWS.items():
        for seed, rows in seeds.items():
            config = {"seed": seed, "model": {"name": "net"}, "pareto": pareto.get(group, {})}
            folder = write_epochs(root / f"{group}{seed}", rows, config=config, tests={1: rows[0]})
            runs.append(PlannedRun(f"{group}/{seed}", group, seed, folder))
    return Plan("p", (Group("base", "Base", True), Group("energy", "Energy")), tuple(runs))


def test_over_all_metrics_that_runs_select_by(tmp_path: Path) -> None:
    experiment = read_experiment(plan(tmp_path))
    found = describe_fronts(experiment)
    assert (found["metrics"], found["together"], found["resolution"]) == (["f1", "epg", "iou"], True, 0.005)
    assert list(found["splits"]) == ["validation", "test"]
    pairs = {(pair["x"], pair["y"]): pair for pair in found["splits"]["validation"]["pairs"]}
    assert list(pairs) == [("f1", "epg"), ("f1", "iou"), ("epg", "iou")]
    energy = pairs["f1", "epg"]["groups"]["energy"]
    fronts, notes = group_fronts(experiment, Selection(("f1", "epg", "iou")))
    assert energy["members"] == [[m.run, m.epoch] for m in fronts["energy"].members]
    assert energy["members"] == [["energy/0", 1], ["energy/1", 1], ["energy/0", 2]]
    assert (energy["knee"], energy["seeds"]) == ([fronts["energy"].knee.run, fronts["energy"].knee.epoch], 2)
    # The best: all points of both seeds; the median of two is what one attains; both attain the worse of each.
    best, median, every = energy["surfaces"]
    assert best == median == [[0.4, 0.7], [0.5, 0.6], [0.6, 0.5]]
    assert every == [[0.4, 0.6], [0.5, 0.5]]
    (cross,) = pairs["f1", "epg"]["baselines"]
    assert (cross["group"], cross["by"], cross["seeds"], cross["runs"]) == ("base", "f1", 2, ["base/0", "base/1"])
    assert cross["x"] == pytest.approx([0.75, 0.1 / 2**0.5], abs=1e-5)
    assert cross["y"] == pytest.approx([0.2, 0.2 / 2**0.5], abs=1e-5)
    assert found["splits"]["validation"]["notes"] == list(notes)
    assert "energy/1, epoch 2: on no front, because epg has no value (NaN) on val" in notes
    tested = found["splits"]["test"]["pairs"][0]["groups"]["energy"]
    assert tested["members"] == [["energy/0", 1], ["energy/1", 1]]  # only what was evaluated there


def test_over_pairs_where_runs_select_by_other_metrics(tmp_path: Path) -> None:
    experiment = read_experiment(plan(tmp_path, base={"metrics": ["f1"], "resolution": 0.1}))
    found = describe_fronts(experiment)
    assert (found["metrics"], found["together"]) == (["f1", "epg", "iou"], False)
    last = found["splits"]["validation"]["pairs"][1]
    assert (last["x"], last["y"]) == ("f1", "iou")
    assert ["energy/1", 2] in last["groups"]["energy"]["members"]  # EPG alone has no value there
    assert describe_panels(experiment)["energy"] == {"panel": "net", "explained": "net, None, None"}
