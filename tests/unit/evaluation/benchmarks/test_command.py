"""launch/judge.py and tools/show_lens.py on a tiny run: scenes of every kind, all files, and mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from guidance.assembly import build_trainer
from launch import judge
from tests.support.processes import locked_elsewhere
from tests.support.runs import CPU, tiny_config
from tools import show_lens

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def run(tmp_path: Path, demo_root: Path) -> Path:
    config = tiny_config(demo_root, trainer={"epochs": 1, "checkpoint_every": 1})
    build_trainer(config, tmp_path / "run", CPU).fit()
    return tmp_path / "run"


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_benchmark_and_kind_of_scene(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    common = ["--methods", "ixg", "gradcam", "--device", "cpu"]
    names = ["--benchmark", "localization", "insertion_deletion", "randomization"]
    grid = ["--grid", "1x2", "--count", "2", "--step", "256", "--output", str(output)]
    assert judge.main([str(run), str(run / "checkpoints/last.pt"), *names, *grid, *common]) == 0
    for name, each in (("localization", 2), ("insertion_deletion", 2), ("randomization", 10)):
        assert (output / f"{name}.png").is_file()
        found = lines(output / f"{name}.csv")
        assert len(found) == 2 * 2 * 2 * 2 * each  # nets, methods, scenes, variants, classes or fractions
        assert {row["net"] for row in found} == {"run", "run-last"}
        assert {(row["method"], row["variant"]) for row in json.loads((output / f"{name}.json").read_text())} == {
            (method, variant) for method in ("ixg", "gradcam") for variant in ("without", "lens")
        }
    assert "| gradcam | lens |" in capsys.readouterr().out
    assert "| gradcam | lens |" in (output / "localization.md").read_text()
    for kind in ("images", "pairs"):
        folder = tmp_path / kind
        code = judge.main(
            [str(run), "--scenes", kind, "--count", "1", "--output", str(folder), *common, "--smallest", "0"]
        )
        if kind == "images":
            assert code == 0
            assert [row["class"] for row in lines(folder / "localization.csv")]
    other = ["--grid", "1x2", "--count", "1", "--output", str(output), *common]
    assert judge.main([str(run), *other]) == 2
    assert "count 2, now 1" in capsys.readouterr().err


def test_mistakes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--grid", "2"], "--grid is ROWSxCOLUMNS"),
        (["--methods", "bcos"], "bcos needs a dynamic-linear net"),
        (["--methods", "ixg@mid7"], "no depth 'mid7'"),
        (["--methods", "ix"], "unknown attribution 'ix'"),
        (["--grid", "9x9"], "needs as many classes"),
        (["--confidence", "1.0", "--grid", "1x2"], "the 0 images to choose from"),
    ):
        assert judge.main([str(run), *arguments, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 2
        assert message in capsys.readouterr().err


def test_one_command_at_a_time(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked_elsewhere(tmp_path / ".lock"):
        assert judge.main([str(run), "--output", str(tmp_path), "--device", "cpu"]) == 2
    assert "is in use by another process" in capsys.readouterr().err
    assert not (tmp_path / "localization").exists()


def test_ctrl_c_says_how_to_go_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "run_benchmark", interrupted)
    assert judge.main([str(run), "--grid", "1x2", "--output", str(tmp_path), "--device", "cpu"]) == 130
    assert capsys.readouterr().err.endswith("and the same command goes on\n")


def test_pictures_of_the_lens(run: Path, tmp_path: Path, demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = next((demo_root / "images").rglob("*.png"))
    common = ["--checkpoint", str(run), "--image", str(image), "--output", str(tmp_path / "lens.png")]
    assert show_lens.main([*common, "--concepts", str(tmp_path / "concepts.png")]) == 0
    assert (tmp_path / "lens.png").stat().st_size > 1000
    assert (tmp_path / "concepts.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert printed.count("without what speaks for") == 3
    for classes, message in ((["ring"], "two different classes"), (["ring", "bird"], "unknown class 'bird'")):
        assert show_lens.main([*common, "--classes", *classes]) == 2
        assert message in capsys.readouterr().err
