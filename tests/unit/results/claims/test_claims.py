"""Claims of experiments that were made by hand: judged, printed and written by the command of the report."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from guidance.results.claims.claim_file import read_claims
from guidance.results.claims.judging import Verdict, judge_claims, of_experiment
from tests.unit.results.claims.experiments import PAPERS, claim, direction, experiment, one, write
from tools import report as tool

PLACE = ["model_guidance", "table_1", "energy", "conventional worst"]  # 56.1 +- 4.0
CLAIMS = (
    claim("holds", direction("energy", "baseline"), numbers={"worst": PLACE}),
    claim("fails", direction("baseline", "energy")),
    claim("lower", direction("energy", "baseline", "sparsity")),
    claim("open", direction("energy", "single"), direction("energy", "baseline")),
    claim("partly", direction("energy", "baseline"), direction("energy", "l1")),
    claim("absent", direction("l1", "baseline")),
    claim("none", not_built="the lens is not built yet", checks=[]),
    claim("number", {"expect": "number", "group": "energy", "metric": "epg", "published": PLACE}),
)
SEEDS = {0: 0.6, 1: 0.62, 2: 0.61}
GROUPS: dict[str, Any] = {
    "bcos": {seed: one(epg, sparsity=0.5) for seed, epg in SEEDS.items()},
    "baseline": {seed: one(epg - 0.2, sparsity=0.3) for seed, epg in SEEDS.items()},
    "single": {0: one(0.1)},
}
VERDICTS = {
    "holds": "reproduced", "fails": "not reproduced", "lower": "not reproduced", "open": "inconclusive",
    "partly": "inconclusive", "absent": "not run", "none": "not run", "number": "inconclusive",
}  # fmt: skip
HOLDS = "EPG: energy better than baseline (test, best EPG)"


def command(root: Path, scale: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """Judge the claims above, with the group "bcos" under its name in the claims; what claims.json says of each."""
    path = write(root / "claims.yaml", *CLAIMS)
    experiment(root, GROUPS, scale)
    assert tool.main([str(root), "--claims", str(path), "--rename", "energy=bcos", *arguments]) == 0
    return {each["claim"]: each for each in json.loads((root / "claims.json").read_text())}


@pytest.mark.parametrize(("scale", "number"), [("small", "inconclusive"), ("full", "reproduced")])
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str, number: str) -> None:
    """Every verdict, beside the tables of the fronts; a number counts at full scale only."""
    content = command(tmp_path, scale)
    assert {name: each["verdict"] for name, each in content.items()} == VERDICTS | {"number": number}
    out = capsys.readouterr().out
    reproduced = 1 + (number == "reproduced")
    counts = f"{reproduced} reproduced, 2 not reproduced, {4 - reproduced} inconclusive, 2 not run; scale: {scale}"
    assert f"8 claims: {counts}" in out
    assert (
        "  REPRODUCED (model_guidance, Fig. 5): as claimed (paired t-test, 3 seeds)\n  published: worst: 56.1 ± 4"
        in out
    )
    assert "test split, selected on validation; mean +- standard deviation over seeds" in out
    assert content["holds"] == {
        "claim": "holds", "says": "Says holds.", "where": "model_guidance, Fig. 5", "published": ["worst: 56.1 ± 4"],
        "ours": [f"{HOLDS}: 0.6100 ± 0.0100 against 0.4100 (3 seeds; reproduced)"], "scale": scale, "verdict": "reproduced",
        "reason": "as claimed (paired t-test, 3 seeds)",
    }  # fmt: skip
    assert {name: content[name]["reason"] for name in ("none", "absent", "partly", "open")} == {
        "none": "the lens is not built yet", "absent": "no group l1", "open": "one seed decides nothing",
        "partly": "1 of 2 checks not run: no group l1",
    }  # fmt: skip


def test_files(tmp_path: Path) -> None:
    content = command(tmp_path, "full", "--output", str(tmp_path))
    with open(tmp_path / "claims.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert Counter(line["claim"] for line in lines) == dict.fromkeys(content, 1) | {"open": 2, "partly": 2}
    first, number = lines[0], next(line for line in lines if line["claim"] == "number")
    expected = {"ours": 0.61, "sd": 0.01, "compared with": 0.41, "difference": 0.2, "low": 0.2, "high": 0.2}
    assert {name: float(first[name]) for name in expected} == pytest.approx(expected)
    told = (first["check"], first["seeds"], first["scale"], first["experiment"], first["verdict"], first["decides"])
    assert told == (HOLDS, "3", "full", "R1", "reproduced", "True")
    assert [float(number[name]) for name in ("published", "difference")] == pytest.approx([0.561, 0.049])
    text = (tmp_path / "claims.md").read_text()
    assert f"| holds: Says holds. | model_guidance, Fig. 5 | worst: 56.1 ± 4 | {HOLDS}: 0.6100 ± 0.0100 against" in text
    assert "| none: Says none. | model_guidance, Fig. 5 |  |  | not run | the lens is not built yet |" in text


def judged(tmp_path: Path, *checks: dict[str, Any], plans: list[Any]) -> Verdict:
    path = write(tmp_path / "claims.yaml", claim("R", *checks))
    return judge_claims(read_claims(path, PAPERS), [of_experiment(plan) for plan in plans])[0]


def test_checks_that_do_not_decide(tmp_path: Path) -> None:
    shown = direction("baseline", "bcos") | {"decides": False}
    found = judged(tmp_path, direction("bcos", "baseline"), shown, plans=[experiment(tmp_path / "x", GROUPS)])
    assert found.verdict == "reproduced"
    assert [each.judged.verdict for each in found.checks] == ["reproduced", "not reproduced"]


def test_seeds_that_are_missing_are_named(tmp_path: Path) -> None:
    """The others decide, without pairs; one alone does not."""
    groups = GROUPS | {"bcos": {0: one(0.6), 1: one(0.61), 2: [{}]}}
    found = judged(tmp_path, direction("bcos", "baseline"), plans=[experiment(tmp_path / "x", groups)])
    assert found.verdict == "reproduced"
    assert found.reason == (
        "as claimed (Welch's test, 2 and 3 seeds); bcos, seed 2: no result of runs/bcos/0002 on test"
    )
    groups = GROUPS | {"bcos": {0: one(0.6), 1: [{}], 2: [{}]}}
    found = judged(tmp_path, direction("bcos", "baseline"), plans=[experiment(tmp_path / "y", groups)])
    assert (found.verdict, found.reason.partition(";")[0]) == ("inconclusive", "one seed decides nothing")


def test_a_claim_over_several_experiments(tmp_path: Path) -> None:
    """Each check is judged wherever its groups are; groups of two experiments are never compared."""
    birds = experiment(tmp_path / "birds", {"a": GROUPS["bcos"], "b": GROUPS["baseline"]}, name="birds", scale="full")
    dogs = experiment(
        tmp_path / "dogs", {"a": GROUPS["baseline"], "b": GROUPS["bcos"], "c": GROUPS["bcos"]}, name="dogs"
    )
    both = judged(tmp_path, direction("a", "b"), plans=[birds, dogs])
    assert [(each.evidence, each.judged.verdict) for each in both.checks] == [
        ("birds", "reproduced"), ("dogs", "not reproduced"),
    ]  # fmt: skip
    assert (both.verdict, both.scale) == ("not reproduced", "full, small")
    one_each = judged(tmp_path, direction("a", "b"), direction("c", "a"), plans=[birds, dogs])
    assert len(one_each.checks) == 3
    other = {"expect": "better", "group": "a", "than": "b", "metric": "epg", "settings": {"data.root": "y"}}
    neither = judged(tmp_path, other, plans=[birds, dogs])
    assert (neither.verdict, len(neither.checks)) == ("not run", 1)


def test_results_of_other_settings_are_no_results_of_the_runs(tmp_path: Path) -> None:
    """What was only evaluated on shifted crops says nothing of the images as they are."""
    plan = experiment(tmp_path / "x", {name: {0: one(0.5), 1: one(0.6)} for name in ("a", "b")})
    for run in plan.runs:
        for path in (run.folder / "results").iterdir():
            path.write_text(path.read_text().replace('"evaluation.crop": "none"', '"evaluation.crop": "shifted"'))
    assert judged(tmp_path, direction("a", "b"), plans=[plan]).verdict == "not run"
    shifted = direction("a", "b") | {"evaluated": {"evaluation.crop": "shifted"}}
    assert judged(tmp_path, shifted, plans=[plan]).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--rename", "energy"], "expected NAME=GROUP"),
        (["x", "--rename", "energi=energy"], "Did you mean 'energy'"),
        (["x", "--rename", "l1=b"], "there is no group 'b'; there are energy"),
        (["x", "other"], "expected either run folders, or experiments"),
        (["x", "y", "--html"], "with --html a single experiment"),
        (["empty"], "no run of R1 has an epoch yet"),
    ],
)
def test_mistakes_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    for name, epochs in (("x", one(0.5)), ("y", one(0.5)), ("empty", [{}])):
        experiment(tmp_path / name, {"energy": {0: epochs}})
    paths = [str(tmp_path / each) if each in ("x", "y", "empty", "other") else each for each in arguments]
    assert tool.main(paths) == 2
    assert message in capsys.readouterr().err
