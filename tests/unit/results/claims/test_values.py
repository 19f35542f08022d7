"""Which runs, checkpoints and results count for the value of a seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from guidance.results.claims.values import Quantity, measure
from tests.unit.results.claims.experiments import experiment, one, result


def test_which_checkpoint_counts(tmp_path: Path) -> None:
    """Chosen on validation over all runs of a seed, measured on test."""
    first = {
        1: ({"f1": 0.9, "epg": 0.1}, {"f1": 0.88, "epg": 0.5}),
        2: ({"f1": 0.8, "epg": 0.5}, {"f1": 0.79, "epg": 0.4}),
    }
    second = {
        3: ({"f1": 0.1, "epg": 0.6}, {"f1": 0.2, "epg": 0.3}),
        2: ({"f1": 0.7, "epg": 0.4}, {"f1": 0.99, "epg": 0.99}),
    }
    plan = experiment(tmp_path, {"energy": {3: [first, second]}})
    found = {
        at: measure(plan, "energy", Quantity("epg", at=at, by=("f1", "epg") if at == "knee" else ())).by_seed
        for at in ("best", "knee", "last")
    }
    assert found == {"best": {3: 0.3}, "knee": {3: 0.4}, "last": {3: 0.3}}
    assert measure(plan, "energy", Quantity("epg", by=("f1",))).by_seed == {3: 0.5}
    # all four points, measured on test: 0.99 x 0.99 holds the others
    assert measure(plan, "energy", Quantity("hypervolume", at="front", by=("f1", "epg"))).by_seed == pytest.approx(
        {3: 0.99**2}
    )
    assert measure(plan, "energy", Quantity("log:step/images_per_second")).by_seed == {3: 13.0}


def test_a_front_of_a_metric_that_is_better_lower(tmp_path: Path) -> None:
    plan = experiment(tmp_path, {"aim": {0: one(0.5, sparsity=0.2)}})
    found = measure(plan, "aim", Quantity("hypervolume", at="front", by=("epg", "sparsity")))
    assert found.by_seed == pytest.approx({0: 0.5 * 0.8})


def test_what_is_evaluated_otherwise_is_another_quantity(tmp_path: Path) -> None:
    plan = experiment(tmp_path, {"energy": {0: one(0.5), 1: one(0.6)}})
    folder = plan.runs[0].folder
    result(folder, 1, {"epg": 0.1}, **{"evaluation.crop": "shifted"})
    result(folder, 1, {"epg": 0.9}, split="val")
    assert measure(plan, "energy", Quantity("epg")).by_seed == {0: 0.5, 1: 0.6}
    shifted = measure(plan, "energy", Quantity("epg", where={"evaluation.crop": "shifted"}))
    assert shifted.by_seed == {0: 0.1}
    assert shifted.notes == ("energy, seed 1: no run has a result on test, evaluation.crop=shifted",)
    assert measure(plan, "energy", Quantity("epg", split="val")).by_seed == {0: 0.9}
    for asked, found in (
        ({"data.root": "y"}, {0: 0.5, 1: 0.6}),
        ({"data.root": "x"}, {}),
        ({"aim.threshold": 0.1}, {}),
    ):
        assert measure(plan, "energy", Quantity("epg", where=asked)).by_seed == found
    assert measure(plan, "l1", Quantity("epg")).notes == ("no group l1",)
    (folder / "results/broken.json").write_text('{"metrics": {}}')
    with pytest.raises(ValueError, match=r"broken\.json is not a result of launch/evaluate\.py"):
        measure(plan, "energy", Quantity("epg"))


def test_nan_is_a_run_without_a_number(tmp_path: Path) -> None:
    plan = experiment(tmp_path, {"energy": {0: one(math.nan), 1: one(0.6)}})
    found = measure(plan, "energy", Quantity("epg"))
    assert (found.finite, found.notes, set(found.by_seed)) == ({1: 0.6}, (), {0, 1})
