"""What the report says of an experiment whose runs were trained, and the command that writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guidance.results.groups.epochs import ExperimentRuns, GroupRun, RunEpoch
from guidance.results.plan_file import Group, Plan, PlannedRun, read_plan
from tools import report as tool
from tools.reports.page import with_evaluations


def test_the_content_of_an_experiment(experiment: Path, content: dict[str, Any]) -> None:
    plan = read_plan(experiment)
    assert [run["name"] for run in content["runs"]] == [run.name for run in plan.runs[:-1]]
    assert content["missing"] == ["energy/0002"]
    assert content["fronts"]["together"] is False
    assert content["fronts"]["metrics"] == ["f1", "epg", "iou", "accuracy", "sparsity"]
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
    printed = capsys.readouterr().out
    assert "4 runs, maps of 0, " in printed
    assert "27 claims: 0 reproduced" in printed
    assert '"verdict":"not run"' in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert not (tmp_path / "maps.png").exists()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert tool.main(arguments) == 2
    assert "pip install 'guidance[report]'" in capsys.readouterr().err


def test_a_new_evaluation_takes_the_place_of_an_old_one() -> None:
    planned = PlannedRun("a", "g", 0, Path("a"))
    epochs = tuple(
        RunEpoch("a", "g", 0, n, 10 * n, {"val": {"f1": 0.1}, "test": {"f1": n / 10, "epg": 0.3}}) for n in (1, 2)
    )
    before = ExperimentRuns(Plan("p", (Group("g", "G"),), (planned,)), (GroupRun(planned, 0, {}, epochs, 1.0),), ())

    def after(step: int, split: str = "test") -> list[Any]:
        found: Any = {"a": SimpleNamespace(settings={"epoch": 2, "step": step}, metrics={"f1": 0.5})}
        return [(e.step, e.metrics.get("test")) for e in with_evaluations(before, found, split).runs[0].epochs]

    first = (10, {"f1": 0.1, "epg": 0.3})
    assert after(20) == [first, (20, {"f1": 0.5})]
    assert after(25) == [first, (20, {"f1": 0.2, "epg": 0.3}), (25, {"f1": 0.5})]  # in the middle of an epoch
    assert after(20, "val") == [first, (20, {"f1": 0.2, "epg": 0.3})]
