"""Waterbirds: a real sample against a plain walk over its files, and small trees written here."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guidance.data import GuidanceDataset, RegionOptions, eval_transform
from guidance.data.sets.waterbirds import load_waterbirds
from tests.support.data.layouts import edit, write_waterbirds
from tests.support.data.pictures import write_picture


@pytest.mark.parametrize(
    ("split", "counts"), [("train", (740, 0, 0, 220)), ("val", (92, 92, 28, 28)), ("test", (234, 234, 66, 66))]
)
def test_waterbirds_sample_counts(waterbirds_root: Path, split: str, counts: tuple[int, ...]) -> None:
    source = load_waterbirds(waterbirds_root, split)
    groups = Counter(record.group for record in source.records)
    assert tuple(groups[g] for g in range(4)) == counts
    assert all(record.classes == (record.group // 2,) for record in source.records)
    assert (source.single_label, source.complement, source.skipped) == (True, False, 0)
    assert source.fixed_group is not None
    assert source.groups[source.fixed_group] == "waterbird/land"
    background = load_waterbirds(waterbirds_root, split, task="background")
    assert all(record.classes == (record.group % 2,) for record in background.records)
    assert (background.complement, background.classes) == (True, ("land", "water"))


def test_waterbirds_sample_validation_filter(waterbirds_root: Path) -> None:
    val = load_waterbirds(waterbirds_root, "val", validation="filtered")
    assert Counter(record.group for record in val.records) == {0: 92, 3: 28}
    for split, count in (("train", 960), ("test", 600)):
        assert len(load_waterbirds(waterbirds_root, split, validation="filtered").records) == count


def test_waterbirds_sample_held_out_of_the_training_images(waterbirds_root: Path) -> None:
    """A fifth of each bird, the same for both tasks, whatever `seed` a run has; the official validation split is not used."""
    official = {split: load_waterbirds(waterbirds_root, split).records for split in ("train", "val", "test")}
    held = {split: load_waterbirds(waterbirds_root, split, validation="held_out").records for split in official}
    assert Counter(record.group for record in held["val"]) == {0: 148, 3: 44}
    assert Counter(record.group for record in held["train"]) == {0: 592, 3: 176}
    assert {r.path for r in held["train"]} | {r.path for r in held["val"]} == {r.path for r in official["train"]}
    assert held["test"] == official["test"]
    background = load_waterbirds(waterbirds_root, "val", validation="held_out", task="background").records
    assert [record.path for record in background] == [record.path for record in held["val"]]
    other = load_waterbirds(waterbirds_root, "val", validation="held_out", split_seed=1).records
    assert {record.path for record in other} != {record.path for record in held["val"]}
    smaller = load_waterbirds(waterbirds_root, "val", validation="held_out", val_fraction=0.1).records
    assert {record.path for record in smaller} < {record.path for record in held["val"]}


def test_waterbirds_held_out_by_hand(tmp_path: Path) -> None:
    """Four training images of two birds: one of each is held out, and a faulty line is counted once."""
    folder = write_waterbirds(tmp_path)
    for number, (name, bird) in enumerate({"q": 1, "r": 0}.items(), start=13):
        write_picture(folder / "a" / f"{name}.jpg")
        for path, line in (
            (folder / "metadata.csv", f"{number},a/{name}.jpg,{bird},0,{1 - bird},p"),
            (tmp_path / "CUB_200_2011" / "bounding_boxes.txt", f"{number} 0.0 0.0 5.0 5.0"),
        ):
            path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"data\.validation of waterbirds"):
        load_waterbirds(tmp_path, "val", validation="filtred")
    found = {s: load_waterbirds(tmp_path, s, validation="held_out", val_fraction=0.5) for s in ("train", "val")}
    with (folder / "metadata.csv").open() as file:
        training = [row["img_filename"] for row in csv.DictReader(file) if row["split"] == "0"]
    names = {s: [r.path.relative_to(folder).as_posix() for r in source.records] for s, source in found.items()}
    assert sorted(names["train"] + names["val"]) == sorted(training)
    assert sorted(record.classes for record in found["val"].records) == [(0,), (1,)]
    edit(folder / "metadata.csv", f"{training[0]},", "a/missing.jpg,")
    skipped = [
        load_waterbirds(tmp_path, s, validation="held_out", val_fraction=0.5, on_error="skip").skipped
        for s in ("train", "val", "test")
    ]
    assert skipped == [1, 0, 0]


def test_waterbirds_sample_equals_a_plain_walk(waterbirds_root: Path) -> None:
    folder = waterbirds_root / "waterbird_1.0_forest2water2"
    lines = (waterbirds_root / "CUB_200_2011" / "bounding_boxes.txt").read_text().split("\n")
    boxes = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in lines if line}
    with (folder / "metadata.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "1"]
    for root in (waterbirds_root, folder):
        records = load_waterbirds(root, "val").records
        for row, record in zip(rows, records, strict=True):
            x, y, width, height = boxes[row["img_id"]]
            assert record.path == folder / row["img_filename"]
            assert record.boxes == ((x, y, x + width, y + height),)
            assert record.group == 2 * int(row["y"]) + int(row["place"])


def test_waterbirds_sample_masks(waterbirds_root: Path) -> None:
    birds, background = (
        GuidanceDataset(load_waterbirds(waterbirds_root, "val", task=task), eval_transform(32), training=False)
        for task in ("birds", "background")
    )
    for index in range(0, len(birds), 24):
        bird, around = birds[0, index], background[0, index]
        assert torch.equal(bird.masks, ~around.masks)
        assert torch.equal(bird.image, around.image)
        assert 0 < bird.masks.sum() < 32 * 32


def test_waterbirds_versions_are_folders(tmp_path: Path) -> None:
    folder = write_waterbirds(tmp_path, "waterbird_complete95_forest2water2")
    assert [record.group for record in load_waterbirds(tmp_path, "train", version="95").records] == [2, 1]
    assert load_waterbirds(folder, "train", version="95").records[0].boxes == ((1, 2, 4, 6),)
    for root in (tmp_path, folder):
        with pytest.raises(ValueError, match=r"(?s)waterbird_1.0_forest2water2 does not exist.*metadata\.csv"):
            load_waterbirds(root, "train")
    with pytest.raises(ValueError, match="unknown version of waterbirds '90'; known: 100, 95"):
        load_waterbirds(tmp_path, "train", version="90")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda root: edit(root / "metadata.csv", "7,a/x.jpg,1", "7,a/x.jpg,bird"), "line 2 of .*must be integers"),
        (lambda root: edit(root / "metadata.csv", "7,a/x.jpg,1", "7,a/x.jpg,4"), "line 2 of .*got y 4"),
        (lambda root: edit(root / "metadata.csv", "7,a/x.jpg,1,0,0,p", "7,a/x.jpg"), "line 2 of .*must be integers"),
        (lambda root: edit(root.parent / "CUB_200_2011/bounding_boxes.txt", "7 1.0", "8 1.0"), "img_id 7 has no line"),
        (
            lambda root: edit(root.parent / "CUB_200_2011/bounding_boxes.txt", "7 1.0", "7 one"),
            "line 1 of .*four finite numbers",
        ),
        (lambda root: (root / "a/x.jpg").unlink(), r"line 2 of .*x\.jpg does not exist"),
    ],
)
def test_waterbirds_faulty_rows_are_named_or_counted(
    tmp_path: Path, fault: Callable[[Path], None], message: str
) -> None:
    fault(write_waterbirds(tmp_path))
    with pytest.raises(ValueError, match=message):
        load_waterbirds(tmp_path, "train")
    source = load_waterbirds(tmp_path, "train", on_error="skip")
    assert [record.path.name for record in source.records] == ["z.jpg"]
    assert source.skipped == 1


def test_waterbirds_images_are_listed_once(tmp_path: Path) -> None:
    edit(write_waterbirds(tmp_path) / "metadata.csv", "9,a/z.jpg,0,0,1", "9,a/x.jpg,0,0,1")
    with pytest.raises(ValueError, match=r"line 3 of .*x\.jpg is listed twice"):
        load_waterbirds(tmp_path, "train")
    source = load_waterbirds(tmp_path, "train", on_error="skip")
    assert ([record.path.name for record in source.records], source.skipped) == (["x.jpg"], 1)


@pytest.mark.parametrize("beside", [False, True])
def test_waterbirds_segmentations_are_those_of_cub(tmp_path: Path, beside: bool) -> None:
    write_waterbirds(tmp_path)
    if beside:
        (tmp_path / "CUB_200_2011/segmentations").rename(tmp_path / "segmentations")
    birds, background = (load_waterbirds(tmp_path, "train", task=task) for task in ("birds", "background"))
    for source, label in ((birds, 1), (background, 0)):
        assert source.read_segments is not None
        found = source.read_segments(source.records[0])
        assert list(found) == [label]
        assert found[label].nonzero().min(0).values.tolist() == [3, 2]
        assert found[label].sum() == 80
        assert source.records[1].segmentation is None  # z.jpg has none
        assert source.read_segments(source.records[1]) == {}
    inside, outside = (
        GuidanceDataset(
            source, eval_transform(30), training=False, regions=RegionOptions(region="segment", load_segments=True)
        )[0, 0]
        for source in (birds, background)
    )
    assert torch.equal(inside.masks, ~outside.masks)
    assert inside.segments is not None
    assert outside.segments is not None
    assert torch.equal(inside.segments, ~outside.segments)


def test_waterbirds_missing_files_show_the_layout(tmp_path: Path) -> None:
    folder = write_waterbirds(tmp_path)
    boxes = tmp_path / "CUB_200_2011" / "bounding_boxes.txt"
    edit(boxes, "7 1.0 2.0 3.0 4.0", "7 1.0 2.0")
    with pytest.raises(ValueError, match=r"line 1 of .*expected 'img_id x y width height'"):
        load_waterbirds(tmp_path, "train")
    boxes.unlink()
    with pytest.raises(ValueError, match=r"(?s)bounding_boxes\.txt does not exist.*Expected layout"):
        load_waterbirds(tmp_path, "train")
    boxes.write_text("7 1 2 3 4\n7 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"img_id 7 is listed twice in .*bounding_boxes\.txt"):
        load_waterbirds(tmp_path, "train")
    boxes.write_text("7 1 2 3 4\n")
    edit(folder / "metadata.csv", "place,", "where,")
    with pytest.raises(ValueError, match="has no column place; expected the columns img_id"):
        load_waterbirds(tmp_path, "train")
    (folder / "metadata.csv").unlink()
    with pytest.raises(ValueError, match=r"metadata\.csv does not exist"):
        load_waterbirds(tmp_path, "train")
