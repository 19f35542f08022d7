"""One front for each group, what is left out of it, its spread over seeds, and its baseline; by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guidance.evaluation.statistics import Spread
from guidance.results.groups.baseline import baselines
from guidance.results.groups.epochs import ExperimentRuns, read_experiment
from guidance.results.groups.group_fronts import GroupFront, Selection, group_fronts
from guidance.results.groups.tables import baseline_lines, compare_groups, group_rows, group_table
from guidance.results.plan_file import Group, Plan, PlannedRun
from tests.support.checkpoints import write_epochs

NAN = math.nan
Rows = list[tuple[float, ...]]
VAL, TEST = Selection(("f1", "epg"), "val", 0.0), Selection(("f1", "epg"), "test", 0.0)


def experiment(
    folder: Path, groups: dict[str, list[tuple[int, Rows]]], *, start: str | None = None, **writing: Any
) -> ExperimentRuns:
    """(seed, rows of f1 and epg) of each run; the group "base" is the baseline, and the others start from `start`."""
    runs = []
    for group, found in groups.items():
        for i, (seed, rows) in enumerate(found):
            place = write_epochs(folder / group / str(i), rows, config={"seed": seed}, metrics=("f1", "epg"), **writing)
            runs.append(PlannedRun(f"{group}/{i}", group, seed, place, start=None if group == "base" else start))
    return read_experiment(Plan("x", tuple(Group(name, name, name == "base") for name in groups), tuple(runs)))


def numbers(front: GroupFront) -> list[tuple[str, int]]:
    return [(epoch.run, epoch.epoch) for epoch in front.members]


def test_one_front_over_weights_epochs_and_seeds(tmp_path: Path) -> None:
    found = experiment(
        tmp_path, {"a": [(0, [(0.8, 0.1), (0.5, 0.5)]), (0, [(0.7, 0.6)]), (1, [(0.9, 0.2), (0.6, 0.7)])]}
    )
    fronts, notes = group_fronts(found, VAL)
    front = fronts["a"]
    assert numbers(front) == [("a/2", 1), ("a/1", 1), ("a/2", 2)]
    assert {seed: [(e.run, e.epoch) for e in members] for seed, members in front.seeds.items()} == {
        0: [("a/0", 1), ("a/1", 1)], 1: [("a/2", 1), ("a/2", 2)],
    }  # fmt: skip
    assert front.volume == pytest.approx(0.9 * 0.2 + 0.7 * 0.4 + 0.6 * 0.1)
    volumes = 0.8 * 0.1 + 0.7 * 0.5, 0.9 * 0.2 + 0.6 * 0.5
    assert front.volumes.mean == pytest.approx(sum(volumes) / 2)
    assert front.volumes.deviation == pytest.approx(abs(volumes[0] - volumes[1]) / 2**0.5)
    assert front.volumes.seeds == 2
    assert (front.knee.run, front.knee.epoch) == ("a/1", 1)
    # A tie in each seed (distances 1 and 1): the first, with the better F1.
    assert (front.at_knee("f1").mean, front.best("epg").mean) == (pytest.approx(0.85), pytest.approx(0.65))
    assert front.best("f1", by="epg").mean == pytest.approx(0.65)
    assert notes == ()


def test_what_is_not_known_is_on_no_front_and_is_named(tmp_path: Path) -> None:
    rows = [(NAN, 0.99), (0.5, 0.5), (0.99, NAN)]
    found = experiment(tmp_path, {"a": [(0, rows), (1, [(NAN, NAN)])], "b": [(0, [(0.5, NAN)])]})
    fronts, notes = group_fronts(found, VAL)
    assert list(fronts) == ["a"]
    assert numbers(fronts["a"]) == [("a/0", 2)]
    assert list(fronts["a"].seeds) == [0]
    assert notes == (
        "a/0, epoch 1: on no front, because f1 has no value (NaN) on val",
        "a/0, epoch 3: on no front, because epg has no value (NaN) on val",
        "a/1, epoch 1: on no front, because f1, epg have no value (NaN) on val",
        "b/0, epoch 1: on no front, because epg has no value (NaN) on val",
        "b: no epoch has a value of each of f1, epg",
    )
    with pytest.raises(ValueError, match="there is no front on test; a: no epoch was evaluated on test"):
        group_fronts(found, TEST)


def test_the_test_split_selects_nothing(tmp_path: Path) -> None:
    """Epoch 2 is best on test, but validation dominates it; epochs 1 and 3 are selected, with their test values."""
    rows: Rows = [(0.8, 0.2), (0.5, 0.1), (0.6, 0.6), (0.1, 0.9)]
    found = experiment(tmp_path, {"a": [(0, rows)]}, tests={1: (0.3, 0.3), 2: (0.9, 0.9), 3: (0.4, 0.2)})
    fronts, notes = group_fronts(found, TEST)
    front = fronts["a"]
    assert numbers(front) == [("a/0", 1), ("a/0", 3)]
    assert front.volume == pytest.approx(0.3 * 0.3 + 0.1 * 0.2)
    assert (front.best("epg").mean, front.at_knee("f1").mean) == (0.2, 0.3)
    assert notes == (
        "a: 1 of the 3 epochs that validation selects were not evaluated on test, such as a/0, epoch 4; the front is over "
        "those that were",
    )


def test_what_is_better_lower(tmp_path: Path) -> None:
    folder = write_epochs(tmp_path / "a", [(0.5, 0.4), (0.5, 0.2), (0.8, 0.3)], metrics=("f1", "never_energy"))
    found = read_experiment(Plan("x", (Group("a", "A"),), (PlannedRun("a/0", "a", 0, folder),)))
    fronts, _ = group_fronts(found, Selection(("f1", "never_energy"), "val", 0.0))
    front = fronts["a"]
    assert numbers(front) == [("a/0", 3), ("a/0", 2)]
    assert front.volume == pytest.approx(0.8 * 0.7 + 0.5 * 0.1)
    assert front.best("never_energy").mean == 0.2
    assert "lowest never_energy" in group_table(group_rows(found, fronts), ("f1", "never_energy"))


def test_the_baseline_is_what_classifies_best(tmp_path: Path) -> None:
    """Of the runs that any other starts from; whatever the order of the metrics is."""
    base = [(0, [(0.5, 0.9), (0.7, 0.1)]), (1, [(0.9, 0.2)])]
    groups: dict[str, list[tuple[int, Rows]]] = {"base": base, "a": [(0, [(0.5, 0.5)])]}  # type: ignore[dict-item]
    found = experiment(tmp_path / "any", groups)
    for metrics in (("f1", "epg"), ("epg", "f1")):
        (baseline,) = baselines(found, group_fronts(found, Selection(metrics, "val", 0.0))[0])
        assert baseline.at("epg") == Spread(pytest.approx(0.15), pytest.approx(0.1 / 2**0.5), 2)
        assert (baseline.by, baseline.at("f1").mean) == ("f1", pytest.approx(0.8))
    found = experiment(tmp_path / "one", groups, start="base/0")
    (baseline,) = baselines(found, group_fronts(found, VAL)[0])
    assert (baseline.at("f1").mean, baseline.at("f1").seeds) == (0.7, 1)
    assert "the epoch with the best F1 on validation" in baseline_lines([baseline], ["f1"])[0]


@pytest.mark.parametrize(("weights", "f1"), [("pareto/epoch_0001.pt", 0.5), ("last.pt", 0.6), ("elsewhere.pt", 0.7)])
def test_the_baseline_is_the_checkpoint_that_runs_start_from(tmp_path: Path, weights: str, f1: float) -> None:
    """A stage may choose by another metric, or the last one; where the plan does not say, F1 does."""
    groups: dict[str, list[tuple[int, Rows]]] = {
        "base": [(0, [(0.5, 0.9), (0.7, 0.1), (0.6, 0.2)]), (0, [(0.9, 0.9)])], "a": [(0, [(0.5, 0.5)]), (1, [(0.4, 0.4)])],
    }  # fmt: skip
    found = experiment(tmp_path, groups, start="base/0")
    place = Path("runs/base/0/checkpoints") / weights
    runs = tuple(replace(r, planned=replace(r.planned, weights=place if r.planned.start else None)) for r in found.runs)
    found = replace(found, runs=runs)
    (baseline,) = baselines(found, group_fronts(found, VAL)[0])
    assert (baseline.at("f1").mean, baseline.at("f1").seeds) == (f1, 1)
    assert baseline.started_from == (f1 < 0.7)
    assert ("the epoch that other runs start from" in baseline_lines([baseline], ["f1"])[0]) == (f1 < 0.7)


def test_spreads_and_tables(tmp_path: Path) -> None:
    assert Spread.over([0.1, NAN, 0.3]) == Spread(pytest.approx(0.2), pytest.approx(0.02**0.5), 2)
    assert math.isnan(Spread.over([0.4]).deviation)
    assert math.isnan(Spread.over([]).mean)
    found = experiment(tmp_path, {"a": [(0, [(0.5, 0.5)]), (1, [(0.7, 0.5)])], "b": [(0, [(0.2, 0.2)])]})
    fronts, _ = group_fronts(found, VAL)
    lines = [line.split("  ") for line in group_table(group_rows(found, fronts), ("f1", "epg")).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["group", "runs", "seeds", "epochs", "on front", "hypervolume", "knee: F1", "knee: EPG", "highest F1", "highest EPG"],
        ["a", "2", "2", "2", "1", "0.3000 +- 0.0707", "0.6000 +- 0.1414", "0.5000 +- 0.0000",
         "0.6000 +- 0.1414", "0.5000 +- 0.0000"],
        ["b", "1", "1", "1", "1", "0.0400", "0.2000", "0.2000", "0.2000", "0.2000"],
    ]  # fmt: skip
    compared = compare_groups(fronts, resamples=10)
    assert set(compared) == {("a", "b"), ("b", "a")}
    assert compared["a", "b"].undefined == "not defined: the second has 1 seed"
