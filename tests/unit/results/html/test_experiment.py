"""What the report says of an experiment whose runs were trained, and the command that writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guidance.results.plan_file import read_plan
from tools import report as tool
from tools.reports import page as pages


def test_the_content_of_an_experiment(experiment: Path, content: dict[str, Any]) -> None:
    plan = read_plan(experiment)
    assert [run["name"] for run in content["runs"]] == [run.name for run in plan.runs[:-1]]
    assert content["missing"] == ["energy/0002"]
    assert content["front"]["metrics"] == ["f1", "epg", "iou", "accuracy", "sparsity"]
    for run in content["runs"]:
        assert run["points"]["validation"]["epoch"] == [1, 2]
        assert run["points"]["test"]["epoch"] == [2]  # what was evaluated for the report
    detail = content["detail"]
    assert [name.partition("/")[0] for name in detail["runs"]] == ["baseline", "energy", "aim", "energy"]
    assert list(detail["strips"]) == ["aim/0000"]
    assert detail["strips"]["aim/0000"]["epochs"][-1] == 2
    for row in detail["gallery"]["rows"]:
        assert list(row["cells"]) == detail["runs"]
        assert 0 <= row["group"] < len(detail["gallery"]["groups"])
    counts = [box["count"] for box in detail["boxes"]["groups"]["energy"]["epg"] if box]
    assert sum(counts) == 2 * 11  # the pairs of both seeds


def test_the_command(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without nets it takes no time; without Plotly it says how to get it."""
    monkeypatch.syspath_prepend(str(Path(tool.__file__).parent))
    arguments = [str(experiment), "--html", "--output", str(tmp_path), "--detailed", "0"]
    assert tool.main(arguments) == 0
    assert "4 runs, maps of 0, " in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert not (tmp_path / "maps.png").exists()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert tool.main(arguments) == 2
    assert "pip install 'guidance[report]'" in capsys.readouterr().err


def test_a_new_evaluation_takes_the_place_of_an_old_one() -> None:
    points = {"test": {"epoch": [1, 2], "values": {"f1": [0.1, 0.2], "epg": [0.3, 0.4]}}}
    content = {"runs": [{"name": "a", "points": points}, {"name": "b", "points": {}}]}
    found: Any = {
        "a": SimpleNamespace(settings={"epoch": 2}, metrics={"f1": 0.5, "iou": 0.6}),
        "b": SimpleNamespace(settings={"epoch": 3}, metrics={"f1": 0.7}),
    }
    pages._add_points(content, found, "test")
    assert points["test"]["values"] == {"f1": [0.1, 0.5], "epg": [0.3, None], "iou": [None, 0.6]}
    assert content["runs"][1]["points"] == {"test": {"epoch": [3], "values": {"f1": [0.7]}}}
