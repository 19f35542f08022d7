"""Both notebooks, from their first cell to their last, on generated signs and on the real Waterbirds sample."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from guidance.assembly import build_trainer
from guidance.config import parse_config
from tests.support.data.birds import few_birds
from tests.support.processes import run_forked
from tests.support.runs import COUNTS, CPU

ROOT = Path(__file__).parents[3]
LOOK, GUIDE = "is_it_looking_at_the_background", "guide_it_with_twenty_boxes"


@pytest.fixture(autouse=True)
def as_a_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the root of the project, drawing nothing on a screen; commands are forked, which saves their imports."""
    monkeypatch.chdir(ROOT)
    mpl.use("Agg")

    def forked(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return run_forked(command[1:], cwd=ROOT, output=tmp_path / "printed")

    monkeypatch.setattr(subprocess, "run", forked)


def run_notebook(name: str, **parameters: Any) -> dict[str, Any]:
    """What the cells have defined when all have run; `parameters` replace those of the cell that is tagged so."""
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert parameters.keys() <= names.keys()
                names |= parameters
    return names


def train(run: Path, data: dict[str, Any]) -> None:
    config = {
        "data": data | {"image_size": 32, "num_workers": 0, "augmentation": "flip"},
        "model": {"name": "resnet8"}, "objective": {"classification": "bce", "attribution": {"depth": "mid1"}},
        "trainer": {"epochs": 1, "batch_size": 8, "device": "cpu"}, "evaluation": {"iou_threshold": "fit"},
        "log": {"tensorboard": False},
    }  # fmt: skip
    build_trainer(parse_config(config), run, CPU).fit()


def check(capsys: pytest.CaptureFixture[str], run: Path, folder: Path, scratch: Path, groups: int) -> None:
    """The notebooks on a run, and what they tell."""
    found = run_notebook(LOOK, RUN=str(run), FOLDER=str(folder), LIMIT=10)
    told = capsys.readouterr().out
    assert len(found["found"].images) == 10
    assert "10 images, 0 could not be read" in told
    assert told.count("the same class for") == 2
    names = run_notebook(
        GUIDE, RUN=str(run), DATA=str(scratch / "few"), OUTPUT=str(scratch / "out"), IMAGES=16, BOXES=5, EPOCHS=1
    )
    told = capsys.readouterr().out
    assert "16 training images, 5 of them with boxes" in told
    assert [line.split("  ")[0] for line in told.splitlines()[-3:]] == [*names["results"]]
    # The three nets are evaluated on the same images and boxes, and only the last was guided.
    assert len({round(result["epg_chance"], 6) for result in names["results"].values()}) == 1
    assert len(names["guided"].config.data.root.joinpath("groups.csv").read_text().splitlines()) > 16
    assert all(
        len([key for key in result if key.startswith("accuracy_group/")]) == groups
        for result in names["results"].values()
    )
    assert names["longer"].config.objective.localization.weight == 0
    assert names["guided"].config.objective.localization.weight == 5


def test_on_signs(demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run", {"name": "demo", "root": str(demo_root), **COUNTS})
    check(capsys, tmp_path / "run", demo_root / "images/test", tmp_path, 9)


def test_on_real_birds(waterbirds_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = few_birds(waterbirds_root, tmp_path / "birds", 24)
    train(tmp_path / "run", {"name": "waterbirds", "root": str(root), "version": "100", "task": "birds"})
    check(capsys, tmp_path / "run", root, tmp_path, 4)
