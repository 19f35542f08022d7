"""What all data sets have in common: splits, seeds, and errors that show the layout."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from guidance.assembly.sets import build_source
from guidance.config import parse_config
from guidance.config.data import DATA_SECTIONS
from guidance.data import DATASETS
from guidance.data.sets.coco import CLASSES
from guidance.data.sets.imagenet import HARD, WOOF
from guidance.data.source import NoSplitError
from tests.support.data.layouts import LAYOUTS
from tests.support.data.sources import load, made, remove, sample_of

SHARED = [name for name, layout in LAYOUTS.items() if name not in ("voc", "waterbirds")]  # val is held out from train
SPLITS = [(name, split) for name, layout in LAYOUTS.items() for split in layout.counts]


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_section_with_its_settings(name: str) -> None:
    section = DATA_SECTIONS[name]
    assert str(section.model_fields["name"].annotation) == f"typing.Literal['{name}']"
    for parameter in inspect.signature(DATASETS[name]).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            field = section.model_fields[parameter.name]
            if parameter.name != "on_error":
                assert field.default == parameter.default, f"{name}.{parameter.name}"


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_splits_have_their_images(tmp_path: Path, name: str, split: str) -> None:
    layout = LAYOUTS[name]
    config = parse_config(
        {"data": {"name": layout.name, "root": str(made(tmp_path, name)), **layout.options, "num_workers": 0}}
    )
    source = build_source(config, split)
    assert len(source.records) == layout.counts[split]
    assert (source.name, source.split, source.skipped) == (layout.name, split, 0)
    assert source.single_label == config.data.single_label
    if layout.name not in ("imagenet100", "imagewoof"):
        assert any(record.boxes or record.segmentation for record in source.records)
    for index, record in enumerate(source.records):
        assert record.path.is_file()
        segments = source.read_segments is not None
        sample = sample_of(source, index, load_segments=segments, region="best" if segments else "box")
        assert sample.targets.nonzero().flatten().tolist() == list(record.classes)
        assert len(sample.masks) == len(sample.classes) == int(bool(record.boxes or record.segmentation))
        assert source.single_label is False or len(record.classes) == 1


@pytest.mark.parametrize("name", [name for name in SHARED if LAYOUTS[name].counts["train"] < 60])
def test_held_out_images_depend_on_the_seed_alone(tmp_path: Path, name: str) -> None:
    made(tmp_path, name)

    def paths(split: str, **options: Any) -> set[Path]:
        found = [record.path for record in load(tmp_path, name, split, **options).records]
        assert len(set(found)) == len(found)
        return set(found)

    train, val, counts = paths("train"), paths("val"), LAYOUTS[name].counts
    whole = counts["train"] + counts["val"]
    assert not train & val
    assert len(train | val) == whole
    assert paths("val") == val
    assert any(paths("val", split_seed=seed) != val for seed in (1, 2, 3))
    assert paths("train", split_seed=1) | paths("val", split_seed=1) == train | val
    assert len(paths("val", val_fraction=0.4)) == 0.4 * whole
    assert val < paths("val", val_fraction=0.4)
    assert not paths("test") & (train | val)
    assert len(paths("train", val_fraction=0.0)) == whole
    with pytest.raises(ValueError, match=r"val_fraction 0\.0 of \d+ training images leaves none for the split 'val'"):
        load(tmp_path, name, "val", val_fraction=0.0)
    with pytest.raises(ValueError, match="val_fraction must be at least 0 and below 1; got 1"):
        load(tmp_path, name, "train", val_fraction=1)


@pytest.mark.parametrize("name", DATASETS)
def test_wrong_names_are_errors(tmp_path: Path, name: str) -> None:
    if "on_error" in inspect.signature(DATASETS[name]).parameters:
        with pytest.raises(ValueError, match=r"'raise' or 'skip'|does not exist"):
            DATASETS[name](tmp_path, "train", on_error="ignore")
    with pytest.raises(ValueError, match=r"does not exist|Did you mean 'train'"):
        DATASETS[name](tmp_path, "trains")


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_names_are_errors_where_everything_is_there(tmp_path: Path, name: str) -> None:
    made(tmp_path, name)
    with pytest.raises(ValueError, match="'raise' or 'skip'; got 'ignore'"):
        load(tmp_path, name, "train", on_error="ignore")
    with pytest.raises(NoSplitError, match=r"Did you mean 'train'|no split 'trains'.*train"):
        load(tmp_path, name, "trains")


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, layout in LAYOUTS.items() for path in layout.required]
)
def test_missing_files_show_the_layout(tmp_path: Path, name: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)does not exist\. Expected layout:\n.*ROOT"):
        load(tmp_path, name, "test")
    remove(made(tmp_path, name) / path)
    with pytest.raises(ValueError, match=r"(?s)does not exist.*ROOT|has no split 'test'"):
        load(tmp_path, name, "test")


@pytest.mark.parametrize("name", LAYOUTS)
def test_empty_splits_are_errors(tmp_path: Path, name: str) -> None:
    """Here because every image is missing or gone; the build names the split."""
    made(tmp_path, name)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.JPEG"), *tmp_path.glob("boxes.csv")]:
        path.unlink()
    layout = LAYOUTS[name]
    data = {"name": layout.name, "root": str(tmp_path), **layout.options, "on_error": "skip"}
    with pytest.raises(ValueError, match=r"the test split of \w+ at .* has no usable image"):
        build_source(parse_config({"data": data}), "test")


def test_class_names() -> None:
    assert (len(CLASSES), len(WOOF), len(HARD)) == (80, 10, 15)
    assert not set(WOOF) & set(HARD)
