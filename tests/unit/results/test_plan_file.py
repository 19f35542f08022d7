"""The plan of an experiment: written, read back, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guidance.results.plan_file import PLAN, Group, Plan, PlannedRun, plan_of_runs, read_plan, write_plan

SETTINGS = {"objective.localization.weight": 1e-3, "pareto.metrics": ["f1"], "model.weights": None}
RUNS = (
    PlannedRun("baseline/0000", "baseline", 0, Path("runs/baseline/0000")),
    PlannedRun("energy/0000", "energy", 1, Path("runs/energy/0000"), SETTINGS, "baseline/0000"),
)
EXAMPLE = Plan("R1", (Group("baseline", "Baseline", True), Group("energy", "Energy, IxG, input")), RUNS)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_plan(tmp_path, EXAMPLE)
    found = read_plan(tmp_path)
    assert found == replace(EXAMPLE, runs=tuple(replace(run, folder=tmp_path / run.folder) for run in RUNS))
    assert found.of("energy") == found.runs[1:]
    assert found.of("nothing") == ()


def test_folders_given_by_hand(tmp_path: Path) -> None:
    plan = plan_of_runs({"a": [tmp_path / "x", tmp_path / "y"], "b": [tmp_path / "z"]}, baseline="b")
    assert [(run.name, run.folder.name) for run in plan.runs] == [("a/0000", "x"), ("a/0001", "y"), ("b/0000", "z")]
    assert [group.baseline for group in plan.groups] == [False, True]
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan  # absolute folders stay
    with pytest.raises(ValueError, match="no group 'c' to be the baseline; given: a"):
        plan_of_runs({"a": []}, baseline="c")


def test_what_is_no_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no experiment: there is no .*plan\.json"):
        read_plan(tmp_path)
    for broken in ("{", "[]", '{"name": "x", "groups": []}', '{"name": "x", "groups": [], "runs": [{"name": "y"}]}'):
        (tmp_path / PLAN).write_text(broken)
        with pytest.raises(ValueError, match=r"plan\.json is not a plan of an experiment"):
            read_plan(tmp_path)
    with pytest.raises(ValueError, match="the run energy/0000 is of the group 'energy'; known: baseline"):
        replace(EXAMPLE, groups=EXAMPLE.groups[:1])
    for field in ("name", "folder"):
        twice = replace(RUNS[1], **{field: getattr(RUNS[0], field)})
        with pytest.raises(ValueError, match=f"two runs of the experiment R1 have the {field} "):
            replace(EXAMPLE, runs=(RUNS[0], twice))
