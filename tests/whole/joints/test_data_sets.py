"""A data set is added by a loader and a section, without touching the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from guidance.config import Config, parse_config
from guidance.config.data import DATA_SECTIONS, CommonData
from guidance.config.fields import Count
from guidance.data import DATASETS, Record, Source
from guidance.types import lookup
from tests.whole.joints.conftest import go_through

SIZE = 32
SPLITS = {"train": 12, "val": 6, "test": 6}


class PatchesData(CommonData):
    single_label = True
    offers = ("groups",)
    name: Literal["patches"]
    side: Count = 8  # of the patch, in pixels


def load_patches(root: Path, split: str, *, side: int = 8, on_error: str = "raise") -> Source:
    """Grey images with a bright patch of the class, "left" or "right"."""
    records = []
    for i in range(lookup(SPLITS, split, "split of patches")):
        path, label = root / split / f"{i}.png", i % 2
        box = (4.0 + 16 * label, 8.0, 4.0 + 16 * label + side, 8.0 + side)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((SIZE, SIZE, 3), 90 + i, dtype=np.uint8)
            pixels[8 : 8 + side, int(box[0]) : int(box[2])] = 250
            Image.fromarray(pixels).save(path)
        records.append(Record(path, (label,), (box,), (label,), group=i // 2 % 2))
    return Source("patches", split, ("left", "right"), tuple(records), single_label=True, groups=("even", "odd"))


@pytest.fixture(autouse=True)
def patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "patches", load_patches)  # type: ignore[arg-type]
    monkeypatch.setitem(DATA_SECTIONS, "patches", PatchesData)


def test_it_is_trained_on_and_evaluated(tmp_path: Path, settings: Callable[..., Config]) -> None:
    content = settings(trainer={"epochs": 2}, pareto={"metrics": ["worst_group_accuracy", "epg"]}).model_dump(
        mode="json"
    )
    content["data"] = {
        "name": "patches", "root": str(tmp_path / "data"), "image_size": SIZE, "num_workers": 0, "side": 6,
    }  # fmt: skip
    found, lines = go_through(parse_config(content), tmp_path / "run")
    assert found.metrics["epg_chance"] == pytest.approx(6 * 6 / SIZE**2)
    assert found.rows.settings.group_names == ("even", "odd")
    assert {row["class"] for row in found.table()} == {"left", "right"}
    assert all(line["train/localization"] > 0 for line in lines if "epoch" in line)


def test_its_settings_are_checked(settings: Callable[..., Config], tmp_path: Path) -> None:
    own = {"name": "patches", "root": str(tmp_path)}
    config = parse_config({"data": own | {"side": 5}})
    assert config.data.model_dump()["side"] == 5
    with pytest.raises(ValueError, match=r"data\.sides: unknown key; known here: .*Did you mean 'side'\?"):
        parse_config({"data": own | {"sides": 5}})
    with pytest.raises(ValueError, match="seg_epg needs segmentations, which patches does not have"):
        parse_config({"data": own, "pareto": {"metrics": ["seg_epg"]}})
