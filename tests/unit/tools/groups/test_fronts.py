"""The command that compares the groups of an experiment: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

from guidance.results.groups.asking import choose_metrics
from guidance.results.groups.baseline import baselines
from guidance.results.groups.epochs import read_experiment
from guidance.results.groups.group_fronts import Selection, group_fronts
from guidance.results.groups.panels import front_panels
from guidance.results.plan_file import Group, Plan, PlannedRun, read_plan, write_plan
from tests.support.checkpoints import write_epochs
from tools import fronts as tool


def config(loss: str, weight: float, seed: int, net: str = "bcos_resnet50", depth: str = "input") -> dict[str, Any]:
    return {
        "seed": seed, "model": {"name": net}, "trainer": {"epochs": 2},
        "objective": {"mode": "guided", "localization": {"loss": loss, "weight": weight},
                      "attribution": {"method": "bcos", "depth": depth}},
        "evaluation": {"attribution": {"method": None, "depth": "input"}},
    }  # fmt: skip


def write(folder: Path, groups: dict[str, list[dict[str, Any]]], **writing: Any) -> Path:
    """Two epochs for each config of each group: EPG grows with the weight, and falls with the group's place."""
    runs = []
    for number, (group, configs) in enumerate(groups.items()):
        for i, settings in enumerate(configs):
            weight, seed = settings["objective"]["localization"]["weight"], settings["seed"]
            rows = [
                (0.8 - weight / 10 + seed / 100, 0.3 + weight / (1 + number) + seed / 50, 0.2 + 0.1 * e) for e in (0, 1)
            ]
            write_epochs(
                folder / f"runs/{group}/{i:04d}", rows, config=settings, saved=[2], tests={2: rows[1]}, **writing
            )
            runs.append(PlannedRun(f"{group}/{i:04d}", group, seed, Path(f"runs/{group}/{i:04d}")))
    known = tuple(Group(name, name.capitalize(), name.startswith("base")) for name in groups)
    write_plan(folder, Plan("R1", known, tuple(runs)))
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two losses of two weights and two seeds, and a baseline of two seeds."""
    grid = [(weight, seed) for weight in (0.1, 0.2) for seed in (0, 1)]
    groups = {loss: [config(loss, weight, seed) for weight, seed in grid] for loss in ("energy", "l1")}
    return write(tmp_path, {"baseline": [config("energy", 0.0, seed) for seed in (0, 1)]} | groups)


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "fronts.json").read_text())


def test_an_experiment(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(experiment), "--resamples", "50"]) == 0
    out = capsys.readouterr().out
    assert "val split; mean +- standard deviation over seeds" in out
    assert "test split, selected on validation" in out
    row = next(line for line in out.splitlines() if line.startswith("Energy"))
    assert row.split()[1:5] == ["4", "2", "8", "2"]  # runs, seeds, epochs, members
    assert "baseline Baseline: F1 0.8050 +- 0.0071, EPG 0.3100 +- 0.0141" in out
    found = content(experiment)
    assert (found["experiment"], found["metrics"], found["reference"]) == (
        "R1",
        ["f1", "epg", "iou"],
        dict.fromkeys(["f1", "epg", "iou"], 0.0),
    )
    energy = found["splits"]["val"]["groups"][1]
    assert [(m["run"], m["epoch"], m["checkpoint"]) for m in energy["members"]] == [
        (f"energy/{i:04d}", 2, str(experiment / f"runs/energy/{i:04d}/checkpoints/pareto/epoch_0002.pt"))
        for i in (1, 3)
    ]
    assert energy["best_epg"] == {"mean": pytest.approx(0.41), "deviation": pytest.approx(0.02 / 2**0.5), "seeds": 2}
    pairs = {(c["first"], c["second"]): c["larger_hypervolume"] for c in found["splits"]["val"]["comparisons"]}
    assert len(pairs) == 6
    assert pairs["energy", "baseline"] > 0.5
    with open(experiment / "fronts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert sum(row["front_val"] == "True" and row["group"] == "energy" for row in rows) == 2
    assert {row["objective.localization.weight"] for row in rows if row["group"] == "l1"} == {"0.1", "0.2"}
    assert [row["test_f1"] != "" for row in rows] == [row["epoch"] == "2" for row in rows]
    for split in ("val", "test"):
        assert image.imread(experiment / f"fronts_{split}.png").shape[0] > 400


def test_runs_by_hand(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = experiment / "runs"
    arguments = [
        "--group",
        f"Energy, strong={runs}/energy/0002,{runs}/energy/0003",
        "--group",
        f"Plain={runs}/baseline/0000",
    ]
    out = tmp_path / "out"
    assert (
        tool.main([*arguments, "--baseline", "Plain", "--split", "val", "--metrics", "epg", "f1", "--output", str(out)])
        == 0
    )
    captured = capsys.readouterr()
    assert "Energy, strong" in captured.out
    assert "- not defined: a group has one seed" in captured.out
    assert list(content(out)["splits"]) == ["val"]
    assert content(out)["splits"]["val"]["baselines"][0]["group"] == "Plain"
    assert content(out)["splits"]["val"]["groups"][0]["seeds"] == 2  # from the configs
    assert not (out / "fronts_test.png").exists()
    # A front over one metric is one value: no picture.
    assert tool.main([*arguments, "--split", "val", "--metrics", "f1", "--output", str(tmp_path / "one")]) == 0
    assert not list((tmp_path / "one").glob("*.png"))


def test_other_groups(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(experiment), "--by", "objective.localization.weight", "--split", "val"]) == 0
    groups = content(experiment)["splits"]["val"]["groups"]
    assert [(g["group"], g["runs"]) for g in groups] == [("Baseline", 2), ("weight 0.1", 4), ("weight 0.2", 4)]


def test_what_is_left_out_is_told(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config("energy", 0.1, 0)
    write_epochs(experiment / "runs/energy/0000", [(math.nan, 0.9, 0.9)], config=settings)
    (experiment / "runs/energy/0000/checkpoints/pareto/epoch_0002.pt").unlink()
    (experiment / "runs/l1/0000/metrics.jsonl").write_text("broken\n\n")
    assert tool.main([str(experiment), "--split", "val"]) == 0
    err = capsys.readouterr().err
    for note in ("energy/0000 is unfinished: 1 of 2 epochs", "l1/0000 is left out: line 1",
                 "energy/0000, epoch 1: on no front, because f1 has no value (NaN) on val"):  # fmt: skip
        assert f"note: {note}" in err
    members = [m["run"] for g in content(experiment)["splits"]["val"]["groups"] for m in g["members"]]
    assert "energy/0000" not in members


def test_a_metric_without_any_value_does_not_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_epochs(tmp_path / "a", [(0.5, math.nan, math.nan), (0.6, math.nan, math.nan)])
    assert tool.main(["--group", f"A={tmp_path / 'a'}", "--output", str(tmp_path)]) == 0
    assert "note: without epg, iou: no epoch has a value (NaN); EPG and IoU need images" in capsys.readouterr().err
    assert content(tmp_path)["metrics"] == ["f1"]


def test_mistakes_are_explained(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = experiment / "runs/energy/0000"
    for arguments, message in (
        ([], "give the folder of an experiment, or run folders as --group"),
        ([str(experiment), "--group", f"A={run}"], "and not both"),
        ([str(run)], "holds no experiment: there is no "),
        ([str(experiment), "--baseline", "baseline"], "--baseline goes with --group"),
        (["--group", f"A={run}", "--baseline", "B"], "there is no group 'B' to be the baseline; given: A"),
        (["--group", f"{run}"], "expected LABEL=RUN,RUN"),
        (["--group", f"A={run}x"], f"there is no folder {run}x. Did you mean {run}?"),
        ([str(experiment), "--metrics", "f2"], "no run has a value of f2; choose --metrics of epg, f1, iou"),
        ([str(experiment), "--metrics", "epg_chance"], "epg_chance says nothing about how good a net is"),
        ([str(experiment), "--resolution", "-1"], "--resolution is -1"),
        ([str(experiment), "--split", "train"], "there is no front on train; Baseline: no epoch was evaluated on train"),
        ([str(experiment), "--evaluated", "depth"], "--evaluated depth: expected KEY=VALUE"),
        ([str(experiment), "--by", "lambda"], "no config of a run has the setting 'lambda'"),
    ):  # fmt: skip
        assert tool.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not list(experiment.glob("fronts*"))


def test_panels_are_nets_and_depths(tmp_path: Path) -> None:
    """Columns of nets, rows of guided depths; a loss looks the same in all; each net has its own baseline."""
    groups = {
        f"{loss}_{net}_{depth}": [config(loss, 0.1, seed, net, depth) for seed in (0, 1)]
        for net in ("resnet50", "bcos") for depth in ("final", "input") for loss in ("energy", "l1")
        if (net, depth) != ("bcos", "final")
    }  # fmt: skip
    base = {f"base_{net}": [config("energy", 0.0, seed, net)] for seed, net in enumerate(("bcos", "resnet50"))}
    elsewhere = {"base_final": [config("energy", 0.0, 2, "resnet50", "final") | {"evaluation": {}}]}
    found = read_experiment(read_plan(write(tmp_path, elsewhere | base | groups)))
    fronts, _ = group_fronts(found, Selection(choose_metrics(found, None)[0]))
    rows = front_panels(found, fronts, baselines(found, fronts))
    shown = [[None if panel is None else (panel.column, panel.row, panel.metrics[1]) for panel in row] for row in rows]
    assert shown == [
        [("resnet50", "input", "epg"), ("bcos", "input", "epg")], [("resnet50", "final", "epg"), None],
        [("resnet50", "input", "iou"), ("bcos", "input", "iou")], [("resnet50", "final", "iou"), None],
    ]  # fmt: skip
    panels = [panel for row in rows for panel in row if panel is not None]
    assert {tuple((s.label, s.style) for s in panel.series) for panel in panels} == {(("energy", 0), ("l1", 1))}
    chosen = {b.group.name: b.at("epg").mean for b in baselines(found, fronts)}
    by_net = {panel.column: panel.baseline.y for panel in panels if panel.baseline and panel.metrics[1] == "epg"}
    # The maps of the other baseline of resnet50 are those of another depth.
    assert by_net == {"resnet50": chosen["base_resnet50"], "bcos": chosen["base_bcos"]}
    assert chosen == pytest.approx({"base_final": 0.34, "base_bcos": 0.3, "base_resnet50": 0.32})
    assert [len(series.surfaces) for series in panels[0].series] == [3, 3]


def test_depths_of_one_net_are_columns(tmp_path: Path) -> None:
    """As in Fig. 8; and a group that is nowhere else keeps its label where a panel has two of its loss."""
    groups = {
        f"{name}_{depth}": [config("energy", 0.1, 0, depth=depth)] for depth in ("final", "mid1") for name in "ab"
    }
    found = read_experiment(read_plan(write(tmp_path, groups)))
    fronts, _ = group_fronts(found, Selection(("f1", "epg", "iou")))
    rows = front_panels(found, fronts, ())
    shown = [[(panel.column, panel.row, panel.metrics[1]) for panel in row if panel is not None] for row in rows]
    assert shown == [[("mid1", "", "epg"), ("final", "", "epg")], [("mid1", "", "iou"), ("final", "", "iou")]]
    assert [series.label for series in rows[0][0].series] == ["A_mid1", "B_mid1"]  # type: ignore[union-attr]
    assert [len(series.surfaces) for series in rows[0][0].series] == [1, 1]  # type: ignore[union-attr]
