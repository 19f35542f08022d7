"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
