"""The file of claims: what is wrong in one is named, and the one that is shipped can be judged."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidance.evaluation.metrics import is_known
from guidance.results.claims.claim_file import find, read_claims
from guidance.results.claims.judging import judge_claims, of_experiment
from guidance.results.claims.values import NET, SPEED
from tests.unit.results.claims.experiments import CLAIMS, PAPERS, claim, direction, experiment, write

NUMBER = {"expect": "number", "group": "a", "metric": "epg", "published": ["model_guidance", "r4", "bcos", "epg"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checks": []}, r"claim R: expected either checks, or why there are none"),
        ({"wher": "x"}, r"has no option 'wher'.*Did you mean 'where'"),
        ({"numbers": {"x": ["model_guidance", "table_1", "energi", "x"]}}, r"no result .*nothing at 'energi'"),
        ({"numbers": {"x": ["model_guidance", "table_1", "energy"]}}, r"is not one number"),
        ({"checks": [{"expect": "better", "metric": "epg"}]}, r"it lacks 'group'"),
        ({"checks": [direction("a", "b", expect="best")]}, r"cannot expect 'best'"),
        ({"checks": [direction("a", "b") | {"at": "kne"}]}, r"choice of a checkpoint 'kne'.*Did you mean 'knee'"),
        ({"checks": [direction("a", "b", expect="same")]}, r"`within` belongs to same, not_worse"),
        ({"checks": [NUMBER]}, r"a number that is printed without a standard deviation"),
        ({"checks": [direction("a", "b") | {"within": 0.1}]}, r"`within` belongs to same"),
        ({"checks": [direction("a", "b") | {"at": "front", "by": ["epg"]}]}, r"needs a metric, or `at: front`"),
        ({"checks": [{"expect": "better", "group": "a", "than": "b", "at": "front"}]}, r"and the metrics `by`"),
        ({"checks": [direction("a", "b", expect="number")]}, r"what is `published`"),
        ({"checks": [{"expect": "better", "group": "a", "metric": "epg"}]}, r"with a group \(`than`\) or a `value`"),
        ({"checks": [direction("a", "b") | {"decides": False}]}, r"none of its checks decides"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "claims.yaml", claim("R", direction("a", "b")) | change)
    with pytest.raises(ValueError, match=message):
        read_claims(path, PAPERS)


def test_the_shipped_claims(tmp_path: Path) -> None:
    """27, of four papers; every metric is known, and every claim can be judged (here: none was run)."""
    claims = read_claims(CLAIMS, PAPERS)
    assert Counter(claim.paper for claim in claims) == {
        "model_guidance": 10, "reproduction": 4, "aim": 9, "attribution_lens": 4
    }  # fmt: skip
    checks = [check for claim in claims for check in claim.checks]
    quantities = [check.quantity for check in checks] + [c.other[1] for c in checks if isinstance(c.other, tuple)]
    of_runs = [quantity for quantity in quantities if quantity.at != NET]
    metrics = {name for quantity in of_runs for name in (quantity.metric, *quantity.by)} - {"hypervolume", SPEED}
    assert all(map(is_known, metrics))
    values = dict.fromkeys(sorted(metrics), 0.5)
    groups = sorted({group for check in checks for group in check.groups})
    runs = {group: {seed: [{1: (values, values)}] for seed in (0, 1)} for group in groups}
    settings = {"data": {"name": "waterbirds", "version": "100", "annotated_fraction": 0.01},
                "evaluation": {"attribution": {"depth": "input"}, "crop": "shifted_center"}}  # fmt: skip
    for verdict in judge_claims(claims, [of_experiment(experiment(tmp_path, runs, settings=settings))]):
        assert verdict.reason
        for each in verdict.checks:
            ours = each.check.quantity.settings.get("data.name", "waterbirds") == "waterbirds"
            ours = ours and each.check.quantity.at != NET  # which no experiment has
            assert each.judged.seeds == ((0, 1) if ours else ()), each.check  # every metric was found
    printed = yaml.safe_load(PAPERS.read_text())["results"]
    assert find(printed, ["model_guidance", "table_1", "l1", "reversed worst"]) == [58.8, 5.0]
    assert find(printed, ["aim", "table_14", "bottom-up-25", 123]) == [72.79, 8.51]


def test_the_head_names_every_group() -> None:
    """The file of claims says which groups it expects, for those who write experiments."""
    head = CLAIMS.read_text().partition("\nclaims:")[0]
    for check in (check for each in read_claims(CLAIMS, PAPERS) for check in each.checks):
        for group in check.groups:
            pattern = re.sub(r"^(vanilla|xdnn|bcos)_", "NET_", group)
            for name in ("cub", "waterbirds100", "waterbirds95", "traveling_birds", "hard_imagenet", "imagenet100"):
                pattern = re.sub(rf"^{name}_(?=plain|aim)", "SET_", pattern)
            assert re.search(rf"\b{pattern}\b", head), group
