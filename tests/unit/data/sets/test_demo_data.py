"""The generated set: reproducible, balanced as promised, annotated exactly, and safe against races and foreign folders."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidance.data import GuidanceDataset, RegionOptions, Source, eval_transform, generate_demo, load_demo
from guidance.data.sets.demo import NUM_GROUPS, SIGNS

SMALL: dict[str, Any] = {"num_train": 60, "num_val": 30, "num_test": 45, "image_size": 32}


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def group_counts(source: Source) -> list[int]:
    counts = Counter(record.group for record in source.records)
    return [counts[group] for group in range(NUM_GROUPS)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "set"
    generate_demo(root, **SMALL)
    return root


def test_the_same_options_give_the_same_files(root: Path, tmp_path: Path) -> None:
    generate_demo(tmp_path / "again", **SMALL)
    assert files(tmp_path / "again") == files(root)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # nothing temporary is left
    generate_demo(tmp_path / "other", **SMALL, seed=1)
    assert files(tmp_path / "other") != files(root)


def test_groups_follow_the_correlation(root: Path) -> None:
    assert group_counts(load_demo(root, "train", **SMALL)) == [19, 1, 0, 1, 19, 0, 1, 0, 19]
    assert group_counts(load_demo(root, "val", **SMALL)) == [8, 1, 1, 1, 8, 1, 1, 1, 8]  # every group is there
    assert group_counts(load_demo(root, "test", **SMALL)) == [5] * 9


def test_validation_holds_a_twentieth_of_each_group(tmp_path: Path) -> None:
    """An accuracy over one or two images jumps between 0 and 1."""
    options = SMALL | {"num_val": 66, "correlation": 1.0}
    assert group_counts(load_demo(tmp_path / "set", "val", **options)) == [16, 3, 3, 3, 16, 3, 3, 3, 16]
    assert group_counts(load_demo(tmp_path / "set", "train", **options)) == [20, 0, 0, 0, 20, 0, 0, 0, 20]


@pytest.mark.parametrize(("correlation", "train", "val"), [(1.0, 20, 8), (0.5, 10, 5)])
def test_correlation_is_an_option(tmp_path: Path, correlation: float, train: int, val: int) -> None:
    for split, expected in (("train", train), ("val", val), ("test", 5)):
        counts = group_counts(load_demo(tmp_path / "set", split, **SMALL, correlation=correlation))
        assert [counts[0], counts[4], counts[8]] == [expected] * 3
        assert min(counts) > 0 or (split, correlation) == ("train", 1.0)


def test_signs_are_an_option(root: Path, tmp_path: Path) -> None:
    """Other symbols on the same signs in the same places."""
    source, shapes = (load_demo(tmp_path / "set", "test", **SMALL, signs="simple"), load_demo(root, "test", **SMALL))
    assert (source.classes, source.groups[5]) == (("disc", "bar", "pole"), "bar/dots")
    assert shapes.classes == SIGNS["shapes"]
    assert [record.boxes for record in source.records] == [record.boxes for record in shapes.records]
    pictures = [np.asarray(Image.open(of.records[0].path)) for of in (source, shapes)]
    ((x0, y0, x1, y1),) = source.records[0].boxes
    changed = (pictures[0] != pictures[1]).any(2)
    assert changed[y0:y1, x0:x1].sum() > 10
    assert changed.sum() == changed[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1].sum()  # edges are smooth


def test_a_set_from_before_there_was_a_choice_of_signs_has_shapes(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / "annotations.json").read_text())
    del content["settings"]["signs"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert load_demo(tmp_path, "train", **SMALL).classes == SIGNS["shapes"]
    with pytest.raises(ValueError, match=r"the options now are .*'signs': 'simple'"):
        load_demo(tmp_path, "train", **SMALL, signs="simple")


def test_boxes_and_masks_fit(root: Path) -> None:
    source = load_demo(root, "train", **SMALL)
    assert (source.single_label, source.groups[1], source.skipped) == (True, "ring/checker", 0)
    assert source.read_segments is not None
    for record in source.records:
        (segment,) = source.read_segments(record).values()
        (box,) = record.boxes
        rows, columns = segment.any(1).nonzero().flatten(), segment.any(0).nonzero().flatten()
        assert list(box) == [int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
        assert 0.25 * 32 < box[2] - box[0] < 0.45 * 32
        assert segment.sum() > 0.85 * (box[2] - box[0]) * (box[3] - box[1])
        assert record.classes == (record.group // 3,)


def test_samples_of_the_demo_set(root: Path) -> None:
    data = GuidanceDataset(
        load_demo(root, "val", **SMALL), eval_transform(32), training=False, regions=RegionOptions(load_segments=True)
    )
    sample = data[0, 0]
    assert sample.segments is not None
    assert sample.segments.any()
    assert not (sample.segments & ~sample.masks).any()
    assert torch.equal(sample.targets.nonzero().flatten(), sample.classes)


def test_the_texture_is_bold_and_the_sign_is_plain(root: Path) -> None:
    outside, inside = [], []
    source = load_demo(root, "test", **SMALL)
    assert source.read_segments is not None
    for record in source.records:
        grey = np.asarray(Image.open(record.path).convert("L")) / 255
        (segment,) = source.read_segments(record).values()
        outside.append(grey[~segment.numpy()].std())
        inside.append(grey[segment.numpy()].std())
    assert np.mean(outside) > 0.2
    assert min(inside) > 0.05  # the symbol is visible


def load_in_process(arguments: tuple[Path, dict[str, Any]]) -> int:
    root, options = arguments
    return len(load_demo(root, "train", **options).records)


def test_processes_that_generate_at_once_agree(root: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(load_in_process, [(tmp_path / "set", SMALL)] * 3, chunksize=1) == [60] * 3
    assert files(tmp_path / "set") == files(root)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_set_with_other_options_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)'correlation': 0\.97.*'correlation': 0\.5.*delete that folder"):
        load_demo(root, "train", **SMALL, correlation=0.5)


def test_a_set_of_an_older_release_is_told_from_other_options(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / "annotations.json").read_text())
    del content["settings"]["version"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match="by another release, which made another set of the same options; delete that folder"
    ):
        load_demo(tmp_path, "train", **SMALL)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for occupied in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=r"exists but is no generated set"):
            load_demo(occupied, "train", **SMALL)
    assert files(tmp_path) == {"notes.txt": b"mine"}
    (tmp_path / "empty").mkdir()
    assert len(load_demo(tmp_path / "empty", "train", **SMALL).records) == 60


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("guidance.data.sets.demo._box", fail)
    with pytest.raises(KeyboardInterrupt):
        generate_demo(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_annotation_file_is_named(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / "annotations.json").read_text())
    for damage in ("{", json.dumps({"splits": content["splits"]}), json.dumps(content | {"settings": []})):
        (tmp_path / "annotations.json").write_text(damage)
        with pytest.raises(ValueError, match=r"annotations\.json .*delete the folder"):
            load_demo(tmp_path, "train", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_val": 5}, "at least 9 images"),
        ({"image_size": 8}, "at least 16 pixels; got 8"),
        ({"correlation": 1.5}, "between 0 and 1; got 1.5"),
        ({"signs": "simpel"}, "unknown signs 'simpel'; known: shapes, simple. Did you mean 'simple'"),
    ],
)
def test_impossible_options_are_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_demo(tmp_path / "set", **(SMALL | options))
    assert not (tmp_path / "set").exists()
