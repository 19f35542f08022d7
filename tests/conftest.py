"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from guidance.config import Config
from guidance.data import generate_demo
from guidance.models import BACKBONES, Backbone
from tests.support.runs import COUNTS, build_tiny, tiny_config

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# What takes minutes comes first, so that no process ends long after the others; tests/run.sh keeps this order.
FIRST = ("whole/docs/", "whole/test_end_to_end.py", "whole/experiments/", "whole/", "unit/experiments/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file stay together, and in their order."""

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((i for i, start in enumerate(FIRST) if place.startswith(start)), len(FIRST))

    items.sort(key=rank)


def sample(name: str) -> Path:
    """Folder of a real sample data set; the test is skipped where it does not lie beside the project."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real sample {name} is not at ../shared/data/{name}")
    return folder


@pytest.fixture
def waterbirds_root() -> Path:
    return sample("waterbirds100")


@pytest.fixture
def voc_root() -> Path:
    return sample("voc_sample")


@pytest.fixture
def coco_root() -> Path:
    return sample("coco_sample")


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone "tiny"."""
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4))


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of `tiny_config`."""
    root = tmp_path_factory.mktemp("data") / "demo"
    generate_demo(root, **COUNTS, image_size=32)
    return root


@pytest.fixture
def settings(demo_root: Path, tiny: None) -> Callable[..., Config]:
    """`tiny_config` of the pictures at `demo_root`."""
    return partial(tiny_config, demo_root)
