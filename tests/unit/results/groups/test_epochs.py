"""Reading the runs of an experiment: every epoch, what was evaluated of it, and what is unfinished, missing or damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from guidance.results.groups.epochs import read_experiment, regroup
from guidance.results.plan_file import Group, Plan, PlannedRun, plan_of_runs
from tests.support.checkpoints import write_epochs, write_evaluation

CONFIG: dict[str, Any] = {"seed": 7, "trainer": {"epochs": 3, "early_stop": None}, "evaluation": {"region": "box"}}
ROWS = [(0.5, 0.2, 0.1), (0.6, 0.3, 0.2), (0.7, 0.1, math.nan)]


def test_every_epoch_counts_whether_it_was_saved_or_not(tmp_path: Path) -> None:
    folder = write_epochs(tmp_path / "a", ROWS, config=CONFIG, saved=[2], tests={2: (0.55, 0.25, 0.15)}, speed=80.0)
    found = read_experiment(plan_of_runs({"A": [folder]}))
    (run,) = found.runs
    assert (run.seed, run.speed, run.config["evaluation.region"], found.notes) == (7, 80.0, "box", ())
    assert [(e.group, e.run, e.seed, e.epoch, e.step) for e in run.epochs] == [
        ("A", "A/0000", 7, n, 10 * n) for n in (1, 2, 3)
    ]
    assert [e.metrics["val"]["f1"] for e in run.epochs] == [0.5, 0.6, 0.7]
    assert math.isnan(run.epochs[2].metrics["val"]["iou"])
    assert "train/annotated" not in run.epochs[0].metrics["val"]
    assert [e.checkpoint for e in run.epochs] == [None, folder / "checkpoints/pareto/epoch_0002.pt", None]
    assert [e.metrics.get("test") for e in run.epochs] == [None, {"f1": 0.55, "epg": 0.25, "iou": 0.15}, None]


def test_checkpoints_stand_for_lines_that_are_lost(tmp_path: Path) -> None:
    folder = write_epochs(tmp_path / "a", ROWS, config=CONFIG, saved=[1, 2])
    log = folder / "metrics.jsonl"
    log.write_text(
        "".join(line for line in log.read_text().splitlines(True) if '"epoch": 2' not in line) + '{"step": 3'
    )
    (run,) = read_experiment(plan_of_runs({"A": [folder]})).runs
    assert [(e.epoch, e.metrics["val"]["f1"]) for e in run.epochs] == [(1, 0.5), (2, 0.6), (3, 0.7)]
    log.unlink()
    (folder / "config.yaml").unlink()
    found = read_experiment(plan_of_runs({"A": [folder]}))
    assert [e.epoch for e in found.runs[0].epochs] == [1, 2]
    assert math.isnan(found.runs[0].speed)


def test_what_is_unfinished_missing_or_damaged_is_named(tmp_path: Path) -> None:
    whole = write_epochs(tmp_path / "whole", ROWS, config=CONFIG)
    short = write_epochs(tmp_path / "short", ROWS[:2], config=CONFIG)
    stopped = write_epochs(
        tmp_path / "stopped", ROWS[:1], config=CONFIG | {"trainer": {"epochs": 3, "early_stop": {"epochs": 1}}}
    )
    broken = write_epochs(tmp_path / "broken", ROWS, config=CONFIG)
    (broken / "metrics.jsonl").write_text('nothing\n{"step": 1}\n')
    result = write_evaluation(write_epochs(tmp_path / "torn", ROWS, config=CONFIG), 1, {"f1": 0.5}, config=CONFIG)
    result.write_text("{")
    begun = write_epochs(tmp_path / "begun", [], config=CONFIG)
    folders = [whole, short, stopped, broken, tmp_path / "torn", begun, tmp_path / "nowhere"]
    found = read_experiment(plan_of_runs({"A": folders, "B": [tmp_path / "later"]}))
    assert [len(run.epochs) for run in found.runs] == [3, 2, 1, 0, 0, 0, 0, 0]
    assert len(found.of("A")) == 3
    for note, said in zip(found.notes, [
        "A/0001 is unfinished: 2 of 3 epochs", "A/0003 is left out: line 1 of ", "A/0004 is left out: ",
        "A/0005 has no epoch yet", "A/0006 has no epoch yet", "B/0000 has no epoch yet", "B: no run has an epoch yet",
    ], strict=True):  # fmt: skip
        assert note.startswith(said)
    assert f"{result} is damaged" in found.notes[2]
    with pytest.raises(ValueError, match=r"no run of runs has an epoch yet; looked for metrics\.jsonl in .*later"):
        read_experiment(plan_of_runs({"B": [tmp_path / "later"]}))


def test_results_of_several_settings(tmp_path: Path) -> None:
    """The run's own count, however many others there are; where there is none, or two, the user must choose."""
    folder = write_epochs(tmp_path / "a", ROWS, config=CONFIG)
    plan = plan_of_runs({"A": [folder]})
    own = write_evaluation(folder, 2, {"f1": 0.5}, config=CONFIG, depth="input")
    write_evaluation(folder, 2, {"f1": 0.9}, config={"seed": 7, "evaluation": {"region": "segment"}}, depth="input")

    def tested(**where: str) -> float:
        epochs = read_experiment(plan, where=where).runs[0].epochs
        return epochs[1].metrics.get("test", {}).get("f1", math.nan)

    assert tested() == 0.5
    assert tested(**{"evaluation.region": "segment"}) == 0.9
    assert math.isnan(tested(depth="final"))
    # The same with more scores is the same evaluation.
    write_evaluation(
        folder, 2, {"f1": 0.5, "map": 0.1}, config=CONFIG | {"evaluation": {"region": "box", "scores": "all"}}
    )
    assert read_experiment(plan).runs[0].epochs[1].metrics["test"] == {"f1": 0.5, "map": 0.1}
    write_evaluation(folder, 2, {"f1": 0.6}, config=CONFIG, iou_threshold=0.3)
    notes = read_experiment(plan_of_runs({"A": [folder], "B": [write_epochs(tmp_path / "b", ROWS)]})).notes
    assert "epoch 2 was evaluated on test with several settings, and several are those of the run" in notes[0]
    assert own.name in notes[0]
    assert tested(iou_threshold="0.3") == 0.6


def test_only_the_own_results_where_that_is_asked(tmp_path: Path) -> None:
    """A single result of other settings stands for the run's own, unless these alone shall count."""
    folder = write_epochs(tmp_path / "a", ROWS, config=CONFIG)
    plan = plan_of_runs({"A": [folder]})
    shifted = {"seed": 7, "evaluation": {"region": "box", "crop": "shifted"}}
    write_evaluation(folder, 2, {"f1": 0.9}, config=shifted | {"trainer": {"epochs": 5}})

    def tested(**settings: Any) -> dict[str, float] | None:
        return read_experiment(plan, **settings).runs[0].epochs[1].metrics.get("test")

    assert tested() == {"f1": 0.9}
    assert tested(only_own=True) is tested(only_own=True, where={"evaluation.crop": "shifted"}) is None
    write_evaluation(folder, 2, {"f1": 0.8}, config=shifted)
    assert tested(only_own=True, where={"evaluation.crop": "shifted"}) == {"f1": 0.8}
    assert tested(where={"evaluation.crop": "shifted"}) == {"f1": 0.8}  # of two, that which differs in nothing else


def test_results_that_belong_to_no_epoch(tmp_path: Path) -> None:
    folder = write_epochs(tmp_path / "a", ROWS, config=CONFIG)
    path = write_evaluation(folder, 2, {"f1": 0.5}, config=CONFIG)
    content = json.loads(path.read_text())
    content["settings"]["step"] = 23  # of last.pt, in the middle of the third epoch
    path.write_text(json.dumps(content))
    (folder / "results/other.json").write_text('{"p": 0.03}')
    found = read_experiment(plan_of_runs({"A": [folder]}))
    assert all("test" not in epoch.metrics for epoch in found.runs[0].epochs)
    assert found.notes == ("A/0000: results of epoch 2 (step 23) belong to no end of an epoch, and do not count",)


def test_groups_of_equal_settings(tmp_path: Path) -> None:
    runs = []
    for name, group, dilation in (("x", "one", 0.0), ("y", "one", 0.5), ("z", "two", 0.5), ("base", "base", 0.0)):
        folder = write_epochs(tmp_path / name, ROWS, config={"data": {"dilation": dilation}})
        runs.append(PlannedRun(name, group, 3, folder))
    plan = Plan("p", (Group("one", "One"), Group("two", "Two"), Group("base", "Baseline", True)), tuple(runs))
    found = regroup(read_experiment(plan), ["data.dilation"])
    assert {g.name: (g.baseline, [r.planned.name for r in found.of(g.name)]) for g in found.plan.groups} == {
        "base": (True, ["base"]), "dilation 0.0": (False, ["x"]), "dilation 0.5": (False, ["y", "z"]),
    }  # fmt: skip
    assert {epoch.group for run in found.of("dilation 0.5") for epoch in run.epochs} == {"dilation 0.5"}
    assert found.runs[0].seed == 3  # the plan's, where a config has none
    with pytest.raises(ValueError, match="no config of a run has the setting 'dilation'"):
        regroup(read_experiment(plan), ["dilation"])
