"""Which runs, checkpoints and results count for the value of a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from guidance.results.claims.values import SPEED, Quantity, measure
from guidance.results.claims.verdicts import Values
from guidance.results.groups.epochs import read_experiment
from guidance.results.plan_file import Plan
from tests.support.checkpoints import write_evaluation
from tests.unit.results.claims.experiments import config, experiment, one

FIRST = {
    1: ({"f1": 0.9, "epg": 0.1}, {"f1": 0.88, "epg": 0.5}),
    2: ({"f1": 0.8, "epg": 0.5}, {"f1": 0.79, "epg": 0.4}),
}
SECOND = {
    1: ({"f1": 0.7, "epg": 0.4}, {"f1": 0.99, "epg": 0.99}),  # dominated on validation
    2: ({"f1": 0.1, "epg": 0.6}, {"f1": 0.2, "epg": 0.3}),
    3: ({"f1": 0.1, "epg": 0.9}, {}),  # not evaluated
}


def measured(plan: Plan, group: str, metric: str = "epg", **quantity: Any) -> Values:
    found = Quantity(metric, **quantity)
    return measure(read_experiment(plan, where=found.where, only_own=True), group, found)


def test_which_checkpoint_counts(tmp_path: Path) -> None:
    """Chosen on validation over all runs of a seed, measured on test."""
    plan = experiment(tmp_path, {"energy": {3: [FIRST, SECOND]}, "baseline": {3: [FIRST, SECOND]}})
    by = ("f1", "epg")
    assert measured(plan, "energy").by_seed == {3: 0.3}
    assert measured(plan, "energy", by=("f1",)).by_seed == {3: 0.5}
    assert measured(plan, "energy", at="knee", by=by).by_seed == {3: 0.4}
    # What validation selects, measured on test: (0.88, 0.5) holds (0.79, 0.4) and (0.2, 0.3); (0.99, 0.99) is not selected.
    assert measured(plan, "energy", "hypervolume", at="front", by=by).by_seed == pytest.approx({3: 0.88 * 0.5})
    assert measured(plan, "energy", SPEED).by_seed == {3: 13.0}
    # A baseline is taken where it classifies best.
    assert measured(plan, "baseline").by_seed == measured(plan, "baseline", at="knee", by=by).by_seed == {3: 0.5}


def test_a_front_of_a_metric_that_is_better_lower(tmp_path: Path) -> None:
    plan = experiment(tmp_path, {"aim": {0: one(0.5, sparsity=0.2)}})
    found = measured(plan, "aim", "hypervolume", at="front", by=("epg", "sparsity"))
    assert found.by_seed == pytest.approx({0: 0.5 * 0.8})


def test_a_gain_is_of_the_same_seed(tmp_path: Path) -> None:
    groups = {"energy": {0: one(0.5), 1: one(0.7), 2: one(0.9)}, "baseline": {1: one(0.4), 0: one(0.3), 4: one(0.0)}}
    plan = experiment(tmp_path, groups)
    found = measured(plan, "energy", over="baseline")
    assert found.by_seed == pytest.approx({0: 0.2, 1: 0.3})
    assert found.notes == ("baseline: no result of seed 2, so no gain",)
    assert measured(plan, "energy", over="l1") == Values({}, ("no group l1",))


def test_what_is_evaluated_otherwise_is_another_quantity(tmp_path: Path) -> None:
    plan = experiment(tmp_path, {"energy": {0: one(0.5), 1: one(0.6)}})
    shifted = {"evaluation": {"crop": "shifted"}}
    write_evaluation(plan.runs[0].folder, 1, {"epg": 0.1, "f1": 0.5}, config=config(0, shifted))
    assert measured(plan, "energy").by_seed == {0: 0.5, 1: 0.6}
    found = measured(plan, "energy", where={"evaluation.crop": "shifted"})
    assert found.by_seed == {0: 0.1}
    assert found.notes == ("energy, seed 1: no result of runs/energy/0001 on test, evaluation.crop=shifted",)
    assert measured(plan, "l1") == Values({}, ("no group l1",))


def test_a_claim_of_other_runs_is_not_judged_by_these(tmp_path: Path) -> None:
    plan = experiment(
        tmp_path, {"energy": {0: one(0.5), 1: one(0.6)}}, settings={"data": {"root": "x", "fraction": 0.1}}
    )
    assert measured(plan, "energy", settings={"data.fraction": 0.1, "seed": 0}).by_seed == {}
    assert measured(plan, "energy", settings={"data.fraction": 0.1}).by_seed == {0: 0.5, 1: 0.6}
    (note,) = measured(plan, "energy", settings={"data.fraction": 0.01}).notes
    assert note == "the runs of energy have data.fraction=0.1, and the claim is about 0.01"


def test_what_has_no_number_and_what_is_missing(tmp_path: Path) -> None:
    """NaN is kept as such; a run that has not begun, and one that was not evaluated, is named."""
    late: Any = {1: ({"epg": 0.5, "f1": 0.5}, {})}
    groups: Any = {"energy": {0: one(math.nan), 1: [*one(0.6), late], 2: [{}], 3: one(0.7)}}
    found = measured(experiment(tmp_path, groups), "energy")
    assert (found.finite, set(found.by_seed)) == ({1: 0.6, 3: 0.7}, {0, 1, 3})
    assert found.notes == (
        "energy, seed 1: no result of runs/energy/0002 on test", "energy, seed 2: no result of runs/energy/0003 on test",
    )  # fmt: skip
