"""Results as text: columns are aligned, and what has no value is not shown as one."""

from __future__ import annotations

import math

from guidance.evaluation.size_bias import SizeBin
from guidance.results.tables import RUN_METRICS, align, metric_table, run_table, size_table


def test_texts_are_flush_left_and_numbers_right() -> None:
    rows = [["", "run", "epoch"], ["*", "a", "1"], ["", "longer", "100"]]
    assert align(rows, left=2).splitlines() == ["   run     epoch", "*  a           1", "   longer    100"]


def test_runs_beside_each_other() -> None:
    nothing = dict.fromkeys(RUN_METRICS, math.nan)
    lines = run_table({"plain": nothing | {"f1": 0.5}, "b": nothing | {"f1": 0.25, "epg": 0.125}}).splitlines()
    assert lines == ["run       f1    epg", "plain  0.500      -", "b      0.250  0.125"]


def test_metrics_of_many_classes_are_only_written() -> None:
    few = {"f1": 0.5, "epg": math.nan, "ap_class/a": 1.0}
    assert metric_table(few).splitlines() == ["f1          0.5000", "ap_class/a  1.0000", "without a value here: epg"]
    many = {"f1": 0.5} | {f"ap_class/{k}": 0.1 for k in range(41)}
    assert metric_table(many) == "f1  0.5000"


def test_sizes_without_pairs_are_left_out() -> None:
    bins = [SizeBin(0.0, 0.1, 3, 0.5, 0.05), SizeBin(0.1, 1.0, 0, math.nan, math.nan)]
    assert size_table(bins).splitlines() == [
        "share of the image  pairs     EPG  chance",
        "0.00 to 0.10            3  0.5000  0.0500",
    ]
