"""The command that merges runs into one front: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image

from guidance.runs.checkpoint import save

TOOL = Path(__file__).resolve().parents[3] / "tools" / "select_pareto.py"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("select_pareto", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def write_run(folder: Path, *rows: tuple[float, ...], config: dict[str, Any] | None = None) -> Path:
    """One checkpoint per row of f1, epg, iou; epochs count from 1."""
    for epoch, row in enumerate(rows, start=1):
        metrics = dict(zip(("f1", "epg", "iou"), row, strict=True)) | {"map": 0.5}
        content = {"config": config or {}, "classes": [], "model": {"weight": torch.zeros(2)}, "metrics": metrics}
        save(folder / f"epoch_{epoch:04d}.pt", content | {"epoch": epoch, "step": 10 * epoch})
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Baseline: good F1; guided: one member far better localised; the guided second epoch is dominated."""
    write_run(tmp_path / "runs/baseline/checkpoints/pareto", (0.9, 0.2, 0.1), (0.8, 0.3, 0.1))
    write_run(tmp_path / "runs/guided/checkpoints/pareto", (0.85, 0.7, 0.5), (0.85, 0.699, 0.4), (0.2, 0.8, 0.6))
    save(
        tmp_path / "runs/guided/checkpoints/last.pt",
        {"config": {}, "classes": [], "model": {"w": torch.zeros(1)}, "metrics": None, "epoch": 1, "step": 1},
    )
    return tmp_path / "runs"


def front(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "front.json").read_text())


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


def test_metrics_and_resolution_can_be_chosen(runs: Path, tmp_path: Path) -> None:
    arguments = [str(runs / "baseline"), str(runs / "guided"), "--output", str(tmp_path / "out")]
    assert tool.main([*arguments, "--metrics", "epg"]) == 0
    assert [(m["run"], m["epoch"]) for m in front(tmp_path / "out")["members"]] == [("guided", 3)]
    assert tool.main([*arguments, "--metrics", "f1", "epg", "--resolution", "0.4"]) == 0
    # 0.9 and 0.85 are both 0.8 now, and so are 0.7 and 0.8.
    assert [(m["run"], m["epoch"]) for m in front(tmp_path / "out")["members"]] == [("guided", 1)]
    assert not (runs / "front.json").exists()


def test_settings_come_from_the_configs_of_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"pareto": {"metrics": ["map", "epg"], "resolution": 0.5}}
    first = write_run(tmp_path / "a", (0.1, 0.6, 0.3), (0.2, 0.7, 0.4), config=config)
    assert tool.main([str(first)]) == 0
    assert front(tmp_path / "a")["metrics"] == ["map", "epg"]
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [1]  # equal at this resolution: the earliest
    second = write_run(tmp_path / "b", (0.1, 0.1, 0.1))
    capsys.readouterr()
    assert tool.main([str(first), str(second)]) == 2
    assert "the configs of the runs differ in pareto.metrics (a: ['map', 'epg']; b: ['f1', 'epg', 'iou']" in (
        error := capsys.readouterr().err
    )
    assert "choose with --metrics" in error
    assert tool.main([str(first), str(second), "--metrics", "map", "--resolution", "0"]) == 0
    assert (tmp_path / "front.csv").exists()


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


def test_unknown_values_do_not_break_the_files(tmp_path: Path) -> None:
    write_run(tmp_path / "a", (math.nan, 0.5, math.nan), (0.5, 0.4, 0.1))
    assert tool.main([str(tmp_path / "a")]) == 0
    members = front(tmp_path / "a")["members"]
    assert [m["metrics"]["f1"] for m in members] == [0.5, None]
    assert np.isfinite(front(tmp_path / "a")["hypervolume"])


def test_as_a_command(runs: Path) -> None:
    command = [sys.executable, str(TOOL), str(runs / "guided")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOOL.parents[1], timeout=100)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 checkpoints are on the front" in done.stdout
    assert subprocess.run([*command[:2], "nowhere"], capture_output=True, cwd=TOOL.parents[1]).returncode == 2


# --- directions, undefined metrics, settings --------------------------------------------------------------------------


def write_lower(folder: Path, *rows: tuple[float, float]) -> Path:
    """One checkpoint per row of f1 and never_energy, which is better lower."""
    for epoch, (f1, never) in enumerate(rows, start=1):
        content = {"config": {}, "classes": [], "model": {"weight": torch.zeros(2)}, "epoch": epoch, "step": epoch}
        save(
            folder / f"epoch_{epoch:04d}.pt",
            content | {"metrics": {"f1": f1, "never_energy": never, "epg_chance": 0.1}},
        )
    return folder


def test_a_metric_that_is_better_lower_is_minimised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lower(tmp_path / "a", (0.5, 0.4), (0.5, 0.2), (0.8, 0.3), (0.7, 0.9))
    assert tool.main([str(tmp_path / "a"), "--metrics", "f1", "never_energy"]) == 0
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [3, 2]
    volume = 0.8 * 0.7 + 0.5 * 0.8 - 0.5 * 0.7
    assert front(tmp_path / "a")["hypervolume"] == pytest.approx(volume)
    text = f"f1, never_energy from 0 (of never_energy, which is better lower, 1 less the value): {volume:.4f}"
    assert text in capsys.readouterr().out
    assert tool.main([str(tmp_path / "a"), "--metrics", "never_energy"]) == 0
    assert [m["epoch"] for m in front(tmp_path / "a")["members"]] == [2]
    capsys.readouterr()
    assert tool.main([str(tmp_path / "a"), "--metrics", "epg_chance"]) == 2
    assert "epg_chance says nothing about how good a net is" in capsys.readouterr().err


def test_metrics_without_a_value_do_not_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of runs without boxes: a front over what there is, which says so; without anything, an error."""
    write_run(tmp_path / "a", (0.5, math.nan, math.nan), (0.7, math.nan, math.nan))
    assert tool.main([str(tmp_path / "a")]) == 0
    captured = capsys.readouterr()
    assert "without epg, iou: no checkpoint has a value; EPG and IoU need images with a region" in captured.err
    assert "nan" not in captured.out
    assert "hypervolume over f1 from 0: 0.7000" in captured.out
    assert front(tmp_path / "a")["metrics"] == ["f1"]
    assert tool.main([str(tmp_path / "a"), "--metrics", "epg", "iou", "--output", str(tmp_path / "out")]) == 2
    assert "no checkpoint has a value of epg, iou, so there is no front" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pareto", [{"metrics": 0.5}, {"metrics": ["f1", 1]}, {"metrics": "f1"}, 7])
def test_a_config_that_names_no_metrics_is_told_of(
    tmp_path: Path, pareto: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", (0.5, 0.5, 0.5), config={"pareto": pareto})
    assert tool.main([str(tmp_path / "a")]) == 2
    assert re.search(r"run a: pareto\.metrics of its config is .*; choose with --metrics", capsys.readouterr().err)
    assert tool.main([str(tmp_path / "a"), "--metrics", "f1", "--resolution", "0"]) == 0


def test_the_table_says_what_tells_the_runs_apart(tmp_path: Path) -> None:
    def config(seed: int, weight: float, dilation: float) -> dict[str, Any]:
        localization = {"loss": "energy", "weight": weight, "alpha": 0.5}
        return {
            "seed": seed,
            "data": {"name": "voc", "dilation": dilation},
            "objective": {"localization": localization},
        }

    write_run(tmp_path / "a", (0.5, 0.5, 0.5), config=config(0, 0.1, 0.0))
    write_run(tmp_path / "b", (0.6, 0.4, 0.5), (0.1, 0.1, 0.1), config=config(1, 0.1, 0.5))
    assert tool.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    with open(tmp_path / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = ["run", "epoch", "front", "seed", "data.dilation", "data.name"]
    assert [[row[name] for name in shown] for row in rows] == [
        ["b", "1", "True", "1", "0.5", "voc"], ["a", "1", "True", "0", "0.0", "voc"], ["b", "2", "False", "1", "0.5", "voc"],
    ]  # fmt: skip
    assert {row["objective.localization.loss"] for row in rows} == {"energy"}
    assert {row["objective.localization.weight"] for row in rows} == {"0.1"}
    assert "objective.localization.alpha" not in rows[0]  # the same in all runs, and not among those always shown
    assert front(tmp_path)["members"][0]["settings"]["seed"] == 1
    assert [other["epoch"] for other in front(tmp_path)["others"]] == [2]
