"""The sdist and the wheel that is built from it: what they hold, and that the package works where nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import guidance

ROOT = Path(__file__).parents[2]
TRIED = """
import json, sys
import guidance
before = sorted({"torch", "torchvision", "tensorboard", "matplotlib", "pycocotools"} & set(sys.modules))
import torch
from guidance.models import build_model
found = guidance.explain(build_model("resnet8", num_classes=2), torch.rand(3, 32, 32))
after = sorted({"tensorboard", "pycocotools"} & set(sys.modules))
print(json.dumps([guidance.__file__, guidance.__version__, before, after, list(found.maps.shape)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith("docs/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (folder / "dist").glob("*.tar.gz")] == [f"guidance-{guidance.__version__}.tar.gz"]
    (found,) = (folder / "dist").glob("*.whl")
    return found


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = [path for path in (ROOT / "guidance").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert held == {path.relative_to(ROOT).as_posix() for path in package}


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", TRIED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    place, version, before, after, shape = json.loads(done.stdout)
    assert Path(place).is_relative_to(tmp_path)
    assert version == guidance.__version__
    assert (before, after) == ([], [])
    assert shape == [32, 32]
