"""Fixtures that several test modules share.

They import what they need when they are used: the process that hands out the tests to others uses none of them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from guidance.config import Config

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# What takes minutes comes first, so that no process ends long after the others; tests/run.sh keeps this order.
FIRST = (
    "whole/docs/", "unit/tools/benchmarks/", "unit/training/compiled/", "whole/test_end_to_end.py", "whole/experiments/",
    "unit/data/annotation/test_regimes.py", "unit/models/test_models.py", "unit/experiments/", "unit/tools/export/", "whole/",
    "unit/attribution/test_training.py", "unit/models/",
)  # fmt: skip


def pytest_sessionstart() -> None:
    """What is imported and collected stays to the end: it is not searched for garbage, here and below."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


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
def fixed_seed() -> Iterator[None]:
    """And the number of threads, which commands set for their process: more of them would make all later tests slower."""
    import torch

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone "tiny"."""
    from guidance.models import BACKBONES
    from tests.support.runs import TINY

    monkeypatch.setitem(BACKBONES, "tiny", TINY)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of `tiny_config`."""
    from guidance.data import generate_demo
    from tests.support.runs import COUNTS

    root = tmp_path_factory.mktemp("data") / "demo"
    generate_demo(root, **COUNTS, image_size=32)
    return root


@pytest.fixture
def settings(demo_root: Path, tiny: None) -> Callable[..., Config]:
    """`tiny_config` of the pictures at `demo_root`."""
    from tests.support.runs import tiny_config

    return partial(tiny_config, demo_root)


@pytest.fixture(scope="session")
def trained(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a whole run of `tiny_config` with these sections. It is trained once: what changes it takes a copy."""
    from tests.support.runs import train_tiny

    runs: dict[str, Path] = {}

    def run(**sections: dict[str, Any]) -> Path:
        key = repr(sections)
        if key not in runs:
            runs[key] = train_tiny(tmp_path_factory.mktemp("trained") / "run", demo_root, **sections)
        return runs[key]

    return run
