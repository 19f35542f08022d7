"""Two tables of samples, image by image: what is compared, printed and written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from guidance.evaluation.significance import Correlation, mcnemar, paired_tests, share
from guidance.results.comparison import compare_images, p_text, significance_table
from guidance.results.samples import read_right, read_scores
from tools import compare_samples as tool

# image, class, target, predicted, epg. b has two classes, of which one is found; c's region of "never" is predicted.
PLAIN = """image,class,target,predicted,epg
a,bird,1,1,0.2
b,fish,1,0,0.9
b,bird,1,1,0.5
c,fish,1,1,0.4
c,bird,0,1,
d,bird,1,0,0.1
e,bird,1,1,0.3
f,bird,1,1,
"""
BETTER = """image,class,target,predicted,epg
d,bird,1,1,0.2
c,fish,1,1,0.8
c,bird,0,0,0.3
b,fish,1,1,0.7
b,bird,1,1,0.9
a,bird,1,1,0.6
e,bird,1,1,
z,bird,1,1,0.5
"""


def files(folder: Path) -> tuple[Path, Path]:
    paths = folder / "plain.csv", folder / "aim.csv"
    for path, text in zip(paths, (PLAIN, BETTER), strict=True):
        path.write_text(text)
    return paths


def test_an_image_counts_once_with_the_mean_over_its_classes(tmp_path: Path) -> None:
    """Of b 0.7 and 0.8; of c the fish alone, which both have; e has no score in one, and f and z are in one table."""
    first, second = files(tmp_path)
    found = compare_images(
        (read_scores(first, "epg"), read_scores(second, "epg")), (read_right(first), read_right(second)),
        names=("plain", "aim"), score="epg",
    )  # fmt: skip
    assert found.tests == paired_tests([0.2, 0.7, 0.4, 0.1], [0.6, 0.8, 0.8, 0.2])
    assert found.means == pytest.approx((0.35, 0.6))
    assert found.tests.difference == pytest.approx(0.25)
    # right: a and e in both; b, c and d in the second alone
    assert found.right == (share(2, 5), share(5, 5))
    assert found.mcnemar == pytest.approx(mcnemar(0, 3), nan_ok=True)


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = files(tmp_path)
    arguments = ["--baseline", str(first), "--method", str(second), "--output", str(tmp_path / "new/scatter.png")]
    assert tool.main(arguments) == 0
    out = capsys.readouterr().out
    tests = paired_tests([0.2, 0.7, 0.4, 0.1], [0.6, 0.8, 0.8, 0.2])
    for line in (
        "image by image (4 images, each the mean over its classes):",
        f"mean difference, paired t-test {tests.t_interval.low:.4f} to {tests.t_interval.high:.4f} {tests.t_p:.3f}",
        "Wilcoxon signed-rank test 0.125",
        "plain 0.4000 0.1176 to 0.7693",
        "McNemar's test (exact) 0.250",
        "only plain is right on 0, only aim on 3",
    ):
        assert line in " ".join(out.replace("+0.2500", "").split()), line
    content = json.loads((tmp_path / "new/scatter.json").read_text())
    assert (content["names"], content["score"], content["unit"]) == (["plain", "aim"], "epg", "image")
    assert content["tests"]["t_interval"] == pytest.approx(list(tests.t_interval))
    assert (content["tests"]["difference"], content["tests"]["images"]) == (pytest.approx(0.25), 4)
    assert content["right"][1] | {"low": 0} == {"right": 5, "total": 5, "low": 0, "high": 1}
    assert content["mcnemar"] == {"first_only": 0, "second_only": 3, "statistic": None, "p": 0.25, "exact": True}


def test_tables_that_say_nothing_of_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "x.csv", tmp_path / "y.csv"]
    for path in paths:
        path.write_text("image,class,epg\na,bird,0.5\n")
    arguments = ["--baseline", str(paths[0]), "--method", str(paths[1]), "--output", str(tmp_path / "o.png")]
    assert tool.main(arguments) == 0
    assert "McNemar" not in capsys.readouterr().out
    content = json.loads((tmp_path / "o.json").read_text())
    assert (content["right"], content["mcnemar"], content["tests"]["t_p"]) == (None, None, None)
    assert tool.main([*arguments[:-1], str(tmp_path / "o.json")]) != 0
    assert "the numbers go beside it" in capsys.readouterr().err


def test_p_values_and_intervals_of_one_evaluation() -> None:
    rows = {"epg_size_correlation": Correlation(0.8209, 0.0, 0.81, 0.83, 400), "none": Correlation(*[math.nan] * 4, 0)}
    lines = significance_table(rows, {"accuracy": share(3, 4), "accuracy_group/air": share(0, 0)}).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["epg_size_correlation", "0.8209", "0.8100", "to", "0.8300", "<", "0.001", "400", "pairs"],
        ["accuracy", "0.7500", "0.3006", "to", "0.9544", "4", "images"],
    ]
    assert significance_table({}, {}) == ""
    assert [p_text(p) for p in (0.00099, 0.001, 0.5, math.nan)] == ["< 0.001", "0.001", "0.500", "-"]
