"""VOC: a real sample against a plain walk over its files, and small trees written here."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from guidance.data import GuidanceDataset, RegionOptions, eval_transform
from guidance.data.sets.voc import CLASSES, load_voc
from tests.support.data.layouts import OBJECT, edit, write_voc


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
    data = GuidanceDataset(source, eval_transform(64), training=False, regions=RegionOptions(load_segments=True))
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
