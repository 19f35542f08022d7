"""The command that merges runs into one front: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from matplotlib import image

from tests.support.checkpoints import front, write_run
from tests.support.processes import run_forked
from tools import select_pareto as tool

TOOL = Path(__file__).resolve().parents[3] / "tools" / "select_pareto.py"


def test_runs_are_merged_into_one_front(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(runs / "baseline"), str(runs / "guided")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["run", "checkpoint", "epoch", "f1", "epg", "iou"]
    assert out[1].split() == ["baseline", "epoch_0001", "1", "0.9000", "0.2000", "0.1000"]
    assert out[2].split() == ["*", "guided", "epoch_0001", "1", "0.8500", "0.7000", "0.5000"]
    assert out[3].split() == ["guided", "epoch_0003", "3", "0.2000", "0.8000", "0.6000"]
    assert len({len(line) for line in out[:4]}) == 1
    assert "3 of 5 checkpoints are on the front" in out[5]
    # 0.9 x 0.2 x 0.1 + 0.85 x 0.7 x 0.5 + 0.2 x 0.8 x 0.6, less what they share.
    volume = 0.018 + 0.2975 + 0.096 - 0.85 * 0.2 * 0.1 - 0.2 * 0.7 * 0.5 - 0.2 * 0.2 * 0.1 + 0.2 * 0.2 * 0.1
    assert f"hypervolume over f1, epg, iou from 0: {volume:.4f}" in out[6]

    content = front(runs)
    assert content["metrics"] == ["f1", "epg", "iou"]
    assert content["resolution"] == 0.005
    assert content["hypervolume"] == pytest.approx(volume)
    assert content["checkpoints"] == {"baseline": 2, "guided": 3}
    assert [(m["run"], m["checkpoint"], m["epoch"], m["step"], m["knee"]) for m in content["members"]] == [
        ("baseline", "epoch_0001", 1, 10, False),
        ("guided", "epoch_0001", 1, 10, True),
        ("guided", "epoch_0003", 3, 30, False),
    ]
    assert content["members"][1]["metrics"] == {"f1": 0.85, "epg": 0.7, "iou": 0.5, "map": 0.5}
    assert Path(content["members"][1]["path"]) == runs / "guided/checkpoints/pareto/epoch_0001.pt"

    with open(runs / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["front"]) for row in rows] == [
        ("baseline", "True"), ("guided", "True"), ("guided", "True"), ("baseline", "False"), ("guided", "False")
    ]  # fmt: skip
    assert list(rows[0]) == ["run", "checkpoint", "path", "epoch", "step", "front", "knee", "f1", "epg", "iou", "map"]
    assert float(rows[2]["epg"]) == 0.8
    assert float(rows[4]["epg"]) == 0.699
    assert image.imread(runs / "front.png").shape[2] in (3, 4)


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/pareto"])
def test_a_run_is_found_from_each_of_its_folders(runs: Path, inside: str) -> None:
    given = runs / "guided" / inside
    assert tool.main([str(given), str(given), str(runs / "guided")]) == 0
    content = front(runs / "guided")
    assert content["checkpoints"] == {"guided": 3}
    assert len(content["members"]) == 2


def test_own_output_is_no_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`select_pareto.py runs/*` works a second time."""
    for _ in range(2):
        assert tool.main([str(path) for path in sorted(runs.iterdir())]) == 0
    assert list(front(runs)["checkpoints"]) == ["baseline", "guided"]
    assert tool.main([str(runs / "front.csv")]) == 2
    assert "no folder is given" in capsys.readouterr().err


def test_folder_of_checkpoints_and_nested_runs(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "plain", (0.95, 0.1, 0.1))
    write_run(tmp_path / "runs/more/guided/checkpoints/pareto", (0.1, 0.9, 0.1))
    folders = [tmp_path / "plain", runs / "guided", runs / "more" / "guided"]
    assert tool.main([*map(str, folders), "--output", str(tmp_path / "out")]) == 0
    assert list(front(tmp_path / "out")["checkpoints"]) == ["plain", "runs/guided", "runs/more/guided"]


def test_mistakes_are_explained(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(tmp_path / "gone")], "there is no folder"),
        ([str(tmp_path / "empty")], f"empty has no checkpoints; looked for {tmp_path}/empty/checkpoints/pareto/*.pt, "),
        ([str(runs / "guided"), "--metrics", "f1", "accuracy"],
         "run guided: epoch_0001 has no value for accuracy; the front is over f1, accuracy. It has: f1, epg, iou, map."),
        ([str(runs / "guided"), "--resolution", "-1"], "resolution is -1"),
    ):  # fmt: skip
        assert tool.main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert message in captured.err
        assert captured.out == ""
    assert not list(tmp_path.rglob("front.*"))
    (runs / "guided/checkpoints/pareto/epoch_0003.pt").write_bytes(b"PK")
    assert tool.main([str(runs / "guided")]) == 2
    assert "epoch_0003.pt is truncated or corrupt" in capsys.readouterr().err


def test_members_are_evaluated(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, str]] = []

    def evaluate_in_detail(
        path: Path, split: str, *, overrides: Sequence[str], device: torch.device
    ) -> SimpleNamespace:
        # The front is on disk before the long part begins.
        assert len(front(runs)["members"]) == 3
        assert list(overrides) == ["a=1", "b=2", "c=3"]
        seen.append((path.parents[2].name, split))
        metrics = {"f1": 0.1 * len(seen), "epg": math.nan, "worst_group_f1": 0.05}
        return SimpleNamespace(
            metrics=metrics, settings={"depth": "mid3"}, description=f"ixg at mid3, number {len(seen)}"
        )

    inference = ModuleType("guidance.inference")
    inference.evaluate_in_detail = evaluate_in_detail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "guidance.inference", inference)
    arguments = [
        str(runs / "baseline"),
        str(runs / "guided"),
        "--evaluate",
        "test",
        "--set",
        "a=1",
        "b=2",
        "--set",
        "c=3",
    ]
    assert tool.main(arguments) == 0
    assert seen == [("baseline", "test"), ("guided", "test"), ("guided", "test")]
    out = capsys.readouterr().out.splitlines()
    assert "  ixg at mid3, number 3" in out
    assert front(runs)["members"][2]["evaluated_with"] == {"depth": "mid3"}
    header = next(line for line in out if "checkpoint " in line and "epoch " in line)
    assert header.split() == ["run", "checkpoint", "epoch", "f1", "epg", "iou", "test_f1", "test_epg"]
    assert out[out.index(header) + 2].split()[-2:] == ["0.2000", "nan"]
    assert front(runs)["members"][2]["evaluated"] == {
        "test_f1": pytest.approx(0.3), "test_epg": None, "test_worst_group_f1": 0.05,
    }  # fmt: skip
    with open(runs / "front.csv", newline="") as file:
        row = list(csv.DictReader(file))[1]
    assert (row["test_f1"], row["test_epg"], row["test_worst_group_f1"]) == ("0.2", "", "0.05")


def test_as_a_command(runs: Path, tmp_path: Path) -> None:
    command = partial(run_forked, cwd=TOOL.parents[1], output=tmp_path / "printed")
    done = command([str(TOOL), str(runs / "guided")])
    assert done.returncode == 0, done.stderr
    assert "2 of 3 checkpoints are on the front" in done.stdout
    assert command([str(TOOL), "nowhere"]).returncode == 2
