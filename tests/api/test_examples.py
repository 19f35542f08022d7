"""Every example and every block of docs/guides/own_net.md runs, and guidance does in them what it should."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.processes import run_forked

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem != "data")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guides/own_net.md").read_text(), re.DOTALL)
LIBRARIES = {"lightning_loop": "lightning", "accelerate_loop": "accelerate", "timm_net": "timm"}
FIRST_STEPS = ("torchvision_net", "timm_net", "own_cnn")


def run(name: str, folder: Path, *words: str) -> str:
    library = LIBRARIES.get(name)
    if library is not None and find_spec(library) is None:
        pytest.skip(f"{library} is not installed, and nothing here depends on it: pip install {library}")
    done = run_forked([str(ROOT / f"examples/{name}.py"), *words], cwd=folder, output=folder / "printed")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["own_loop", "lightning_loop", "accelerate_loop"])
def test_a_loop_learns_to_look_at_the_square(name: str, tmp_path: Path) -> None:
    accuracy, epg = map(float, re.findall(r"accuracy ([\d.]+), EPG ([\d.]+)", run(name, tmp_path))[-1])
    assert accuracy > 0.9
    assert epg > 0.45  # 0.39 without guidance


def test_a_map_in_three_lines(tmp_path: Path) -> None:
    assert "map.png" in run("explain", tmp_path)
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (224, 224)


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_a_map_in_three_lines_and_a_guided_step_in_ten(name: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    assert re.search(r"depths input, mid1.*; loss \d+\.\d{3}", run(name, tmp_path, "image.png"))
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (224, 224)
    mapped, guided = (ROOT / f"examples/{name}.py").read_text().split("# A map")[1].split("# A guided step")
    assert [len(part.split("\n", 1)[1].strip().splitlines()) for part in (mapped, guided)] == [
        3,
        8,
    ]  # one of them prints


def test_examples_are_short_and_all_of_them_run() -> None:
    assert {path.stem for path in EXAMPLES} == {"explain", "own_loop", *LIBRARIES, *FIRST_STEPS}
    assert all(len(path.read_text().splitlines()) <= 60 for path in EXAMPLES)


def test_the_blocks_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as in a notebook."""
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / "images/image.png")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    assert len(BLOCKS) == 11
    for block in BLOCKS:
        exec(compile(block, "docs/guides/own_net.md", "exec"), found)
    assert (tmp_path / "map.png").is_file()
    assert found["best"]
    assert set(found["step"].terms) == {"classification", "localization", "zero_maps"}
    assert {"classification", "auxiliary", "area", "threshold", "active/stage2"} <= found["masked_step"].terms.keys()
