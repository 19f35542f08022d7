"""Claims of an experiment that was made by hand: judged, printed and written."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from guidance.results.claims.claim_file import read_claims
from guidance.results.claims.report import judge_claims
from tests.unit.results.claims.experiments import PAPERS, claim, direction, experiment, one, write
from tools import claims as tool


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verdict, with the group "bcos" under its name in the claims."""
    place = ["model_guidance", "table_1", "energy", "conventional worst"]  # 56.1 +- 4.0
    path = write(
        tmp_path / "claims.yaml",
        claim("holds", direction("energy", "baseline"), numbers={"worst": place}),
        claim("fails", direction("baseline", "energy")),
        claim("lower", direction("energy", "baseline", "sparsity")),
        claim("open", direction("energy", "single"), direction("energy", "baseline")),
        claim("partly", direction("energy", "baseline"), direction("energy", "l1")),
        claim("absent", direction("l1", "baseline")),
        claim("none", not_built="the lens is not built yet", checks=[]),
        claim("number", {"expect": "number", "group": "energy", "metric": "epg", "published": place}),
    )
    seeds = {0: 0.6, 1: 0.62, 2: 0.61}
    groups = {
        "bcos": {seed: one(epg, sparsity=0.5) for seed, epg in seeds.items()},
        "baseline": {seed: one(epg - 0.2, sparsity=0.3) for seed, epg in seeds.items()},
        "single": {0: one(0.1)},
    }
    for scale, number in (("small", "inconclusive"), ("full", "reproduced")):
        root = tmp_path / scale
        experiment(root, groups, scale)
        assert tool.main([str(root), "--claims", str(path), "--group", "energy=bcos"]) == 0
        out = capsys.readouterr().out
        content = {each["claim"]: each for each in json.loads((root / "claims.json").read_text())}
        assert {name: each["verdict"] for name, each in content.items()} == {
            "holds": "reproduced", "fails": "not reproduced", "lower": "not reproduced", "open": "inconclusive",
            "partly": "inconclusive", "absent": "not run", "none": "not run", "number": number,
        }  # fmt: skip
        reproduced = 1 + (number == "reproduced")
        assert (
            f"8 claims: {reproduced} reproduced, 2 not reproduced, {4 - reproduced} inconclusive, 2 not run; scale: {scale}"
            in out
        )
    holds = "EPG of energy is better than baseline (test, best)"
    assert content["holds"] == {
        "claim": "holds", "says": "Says holds.", "where": "model_guidance, Fig. 5", "published": ["worst 56.1 ± 4"],
        "ours": [f"{holds}: 0.6100 ± 0.0100 against 0.4100 (3 seeds; reproduced)"], "scale": "full", "verdict": "reproduced",
        "reason": "as claimed (paired t-test, 3 seeds)",
    }  # fmt: skip
    assert {name: content[name]["reason"] for name in ("none", "absent", "partly", "open")} == {
        "none": "the lens is not built yet", "absent": "no group l1", "open": "one seed decides nothing",
        "partly": "only some of its checks could be run",
    }  # fmt: skip
    lines = list(csv.DictReader((tmp_path / "claims.csv").open()))
    assert Counter(line["claim"] for line in lines) == dict.fromkeys(content, 1) | {"open": 2, "partly": 2}
    first, number = lines[0], next(line for line in lines if line["claim"] == "number")
    expected = {"ours": 0.61, "sd": 0.01, "compared with": 0.41, "difference": 0.2, "low": 0.2, "high": 0.2}
    assert {name: float(first[name]) for name in expected} == pytest.approx(expected)
    assert (first["check"], first["seeds"], first["scale"], first["verdict"]) == (holds, "3", "full", "reproduced")
    assert (float(number["published"]), number["difference"]) == (pytest.approx(0.561), "")
    text = (tmp_path / "claims.md").read_text()
    assert f"| holds: Says holds. | model_guidance, Fig. 5 | worst 56.1 ± 4 | {holds}: 0.6100 ± 0.0100 against" in text
    assert "| none: Says none. | model_guidance, Fig. 5 | | | not run | the lens is not built yet |" in text


def test_checks_that_do_not_decide(tmp_path: Path) -> None:
    shown = direction("baseline", "energy") | {"decides": False}
    path = write(tmp_path / "claims.yaml", claim("holds", direction("energy", "baseline"), shown))
    seeds = {0: 0.6, 1: 0.62, 2: 0.61}
    groups = {name: {s: one(v - less) for s, v in seeds.items()} for name, less in (("energy", 0.0), ("baseline", 0.2))}
    (found,) = judge_claims(read_claims(path, PAPERS), experiment(tmp_path / "x", groups))
    assert (found.verdict, [judged.verdict for _, judged in found.judged]) == (
        "reproduced",
        ["reproduced", "not reproduced"],
    )


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment(tmp_path / "x", {"energy": {0: one(0.5)}})
    for group, message in (
        ("energy", "expected NAME=GROUP"),
        ("energi=energy", "Did you mean 'energy'"),
        ("l1=b", "has the groups energy"),
    ):
        assert tool.main([str(tmp_path / "x"), "--group", group]) == 2
        assert message in capsys.readouterr().err
    assert tool.main([str(tmp_path)]) == 2
    assert "holds no experiment" in capsys.readouterr().err
