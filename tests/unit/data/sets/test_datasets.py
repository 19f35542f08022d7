"""VOC and Waterbirds: the real samples against a plain walk through their files, and every kind of faulty annotation."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from guidance.data import GuidanceDataset, eval_transform, load_voc, load_waterbirds
from guidance.data.sets.voc import CLASSES
from tests.support.layouts import OBJECT, edit, write_voc, write_waterbirds

# --- VOC, the real sample ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 77), ("val", 39), ("test", 39), ("trainval", 116)])
def test_voc_sample_equals_a_plain_walk(voc_root: Path, split: str, count: int) -> None:
    source = load_voc(voc_root, split)
    folder = voc_root / "VOCdevkit" / "VOC2007"
    names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    assert len(source.records) == len(names) == count
    assert (source.skipped, source.single_label, source.complement, source.groups) == (0, False, False, ())
    for name, record in zip(names, source.records, strict=True):
        objects = ElementTree.parse(folder / "Annotations" / f"{name}.xml").findall("object")
        labels = [node.find("name").text for node in objects]  # type: ignore[union-attr]
        corners = [[float(corner.text) for corner in node.find("bndbox")] for node in objects]  # type: ignore[arg-type, union-attr]
        assert record.path.stem == name
        assert [CLASSES[k] for k in record.box_classes] == labels
        assert [CLASSES[k] for k in record.classes] == sorted(set(labels))
        assert [list(box) for box in record.boxes] == [[x0 - 1, y0 - 1, x1, y1] for x0, y0, x1, y1 in corners]


def test_voc_sample_masks_and_segments(voc_root: Path) -> None:
    source = load_voc(voc_root, "val")
    data = GuidanceDataset(source, eval_transform(64), training=False, load_segments=True)
    inside, total = 0, 0
    for index in range(len(data)):
        sample = data[0, index]
        assert sample.classes.tolist() == list(source.records[index].classes)
        assert sample.targets.nonzero().flatten().tolist() == sample.classes.tolist()
        assert sample.segments is not None
        inside += int((sample.segments & sample.masks).sum())
        total += int(sample.segments.sum())
    assert inside > 0.97 * total > 0  # the boxes lie around the segments


def test_voc_segments_equal_the_class_map(voc_root: Path) -> None:
    source = load_voc(voc_root, "val")
    assert source.read_segments is not None
    for record in source.records[:5]:
        assert record.segmentation is not None
        values = np.asarray(Image.open(record.segmentation))
        for k, segment in source.read_segments(record).items():
            assert np.array_equal(segment.numpy(), values == k + 1)


# --- VOC, written here ------------------------------------------------------------------------------------------------


def test_voc_root_may_be_any_level_of_the_tree(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, {"1": [("dog", 0, (1, 1, 10, 10))]})
    for root in (tmp_path, folder.parent, folder):
        assert [record.path for record in load_voc(root, "train").records] == [folder / "JPEGImages" / "1.jpg"]


def test_voc_boxes_are_shifted_to_half_open(tmp_path: Path) -> None:
    write_voc(tmp_path, {"1": [("dog", 0, (1, 1, 30, 20)), ("cat", 0, (2.5, 3, 4, 5))]})
    source = load_voc(tmp_path, "train")
    assert [list(box) for box in source.records[0].boxes] == [[0, 0, 30, 20], [1.5, 2, 4, 5]]
    assert source.records[0].classes == (CLASSES.index("cat"), CLASSES.index("dog"))
    assert source.read_segments is None
    sample = GuidanceDataset(source, eval_transform(16), training=False)[0, 0]
    assert sample.masks[1].all()  # the dog fills the image


def test_voc_difficult_objects_are_an_option(tmp_path: Path) -> None:
    whole = (1.0, 1.0, 30.0, 20.0)
    write_voc(tmp_path, {"1": [("dog", 1, whole), ("cat", 0, whole)], "2": [("dog", 1, whole)]})
    assert [len(record.boxes) for record in load_voc(tmp_path, "train").records] == [2, 1]
    easy = load_voc(tmp_path, "train", difficult=False)
    assert [record.classes for record in easy.records] == [(CLASSES.index("cat"),)]
    assert easy.skipped == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", r"2\.xml is not well-formed XML"),
        ("<annotation></annotation>", r"2\.xml has no objects"),
        ("<annotation><object><name>unicorn</name></object></annotation>", r"'unicorn' in .*2\.xml is not one of"),
        ("<annotation><object><name>dog</name></object></annotation>", r"'dog' in .*2\.xml has no <bndbox>"),
        (f"<a>{OBJECT.format(name='dog', difficult=0, box=(1, 'x', 2, 3))}</a>", r"2\.xml has no <bndbox>"),
        (None, r"2\.xml does not exist"),
    ],
)
def test_voc_faulty_annotations_are_named_or_counted(tmp_path: Path, content: str | None, message: str) -> None:
    folder = write_voc(tmp_path, {name: [("dog", 0, (1, 1, 10, 10))] for name in "123"})
    path = folder / "Annotations" / "2.xml"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_voc(tmp_path, "train")
    source = load_voc(tmp_path, "train", on_error="skip")
    assert [record.path.stem for record in source.records] == ["1", "3"]
    assert source.skipped == 1


def test_voc_missing_files_show_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)VOC2007 does not exist.*ImageSets/Main/<split>.txt"):
        load_voc(tmp_path, "train")
    folder = write_voc(tmp_path, {"1": [("dog", 0, (1, 1, 10, 10))]})
    with pytest.raises(ValueError, match=r"no split 'test' .*splits there: train$"):
        load_voc(tmp_path, "test")
    with pytest.raises(ValueError, match="VOC2012 does not exist"):
        load_voc(tmp_path, "train", year="2012")
    edit(folder / "ImageSets/Main/train.txt", "1", "1\n1")
    with pytest.raises(ValueError, match="image 1 is listed twice"):
        load_voc(tmp_path, "train")
    shutil.rmtree(folder / "ImageSets")
    with pytest.raises(ValueError, match=r"(?s)train\.txt does not exist.*Expected layout"):
        load_voc(tmp_path, "train")


# --- Waterbirds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "counts"), [("train", (740, 0, 0, 220)), ("val", (92, 92, 28, 28)), ("test", (234, 234, 66, 66))]
)
def test_waterbirds_sample_counts(waterbirds_root: Path, split: str, counts: tuple[int, ...]) -> None:
    source = load_waterbirds(waterbirds_root, split)
    groups = Counter(record.group for record in source.records)
    assert tuple(groups[g] for g in range(4)) == counts
    assert all(record.classes == (record.group // 2,) for record in source.records)
    assert (source.single_label, source.complement, source.skipped) == (True, False, 0)
    background = load_waterbirds(waterbirds_root, split, task="background")
    assert all(record.classes == (record.group % 2,) for record in background.records)
    assert (background.complement, background.classes) == (True, ("land", "water"))


def test_waterbirds_sample_validation_filter(waterbirds_root: Path) -> None:
    val = load_waterbirds(waterbirds_root, "val", filter_validation=True)
    assert Counter(record.group for record in val.records) == {0: 92, 3: 28}
    test = load_waterbirds(waterbirds_root, "test", filter_validation=True)
    assert len(test.records) == 600


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
        GuidanceDataset(source, eval_transform(30), training=False, region="segment", load_segments=True)[0, 0]
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
