"""The file of claims: what is wrong in one is named, and the one that is shipped can be judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidance.results.claims.claim_file import find, read_claims
from guidance.results.claims.report import judge_claims
from tests.unit.results.claims.experiments import CLAIMS, PAPERS, claim, direction, experiment, write


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
        ({"checks": [direction("a", "b", expect="same")]}, r"`within` belongs to `same`"),
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
    groups = {check.group for claim in claims for check in claim.checks}
    groups |= {check.other[0] for claim in claims for check in claim.checks if isinstance(check.other, tuple)}
    names = ("f1", "epg", "iou", "seg_epg", "x_seg_epg", "accuracy", "worst_group_accuracy", "fixed_group_accuracy", "sparsity",
             "epg_size_correlation", "normalized_epg_size_correlation")  # fmt: skip
    values = dict.fromkeys(names, 0.5)
    plan = experiment(tmp_path, {group: {seed: [{1: (values, values)}] for seed in (0, 1)} for group in sorted(groups)})
    for verdict in judge_claims(claims, plan):
        assert verdict.reason
        for check, judged in verdict.judged:
            if not check.quantity.where:
                assert judged.seeds == (0, 1), check  # every metric was found
    printed = yaml.safe_load(PAPERS.read_text())["results"]
    assert find(printed, ["model_guidance", "table_1", "l1", "reversed worst"]) == [58.8, 5.0]
    assert find(printed, ["aim", "table_14", "bottom-up-25", 123]) == [72.79, 8.51]
