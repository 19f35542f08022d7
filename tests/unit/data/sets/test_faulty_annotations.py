"""Faults of annotations, in each data set: of one image, of no image, of a whole file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.data.layouts import LAYOUTS, write_text
from tests.support.data.pictures import write_picture
from tests.support.data.sources import (
    CAT,
    COCO_JSON,
    CUB,
    CUSTOM_JSON,
    VOC,
    XML,
    Fault,
    annotation,
    delete,
    load,
    made,
    text,
)


def jsons(name: str, path: str, first: str) -> list[tuple[str, Fault, str]]:
    """Faults of COCO's format; `first`: the first image."""
    return [
        (name, annotation(path, category_id=12), "annotation 100 of image .* category_id 12, which is not among"),
        (name, annotation(path, category_id="1"), "category_id '1', which is not among"),
        (name, annotation(path, bbox=[1, 2, 3]), r"annotation 100 .*bbox .*\[1, 2, 3\], expected four finite numbers"),
        (name, annotation(path, bbox=[1, 2, "x", 4]), "bbox .*expected four finite numbers"),
        (name, annotation(path, bbox=7), "bbox .*expected four finite numbers"),
        (name, annotation(path, bbox=[1, 2, float("nan"), 4]), "bbox .*four finite numbers"),
        (name, annotation(path, segmentation=5), "segmentation that is neither"),
        (name, annotation(path, id=101), "annotation 101 is listed twice"),
        (name, delete(first), r"_00\.jpg does not exist; add it or remove it"),
    ]


FAULTS: list[tuple[str, Fault, str]] = [
    ("voc", delete(VOC + "JPEGImages/7.jpg"), r"7\.jpg does not exist"),
    ("voc", text(VOC + "Annotations/7.xml", "<xmin>3", "<xmin>nan"), r"7\.xml has no <bndbox>"),
    *jsons("coco", COCO_JSON, "val2017/instances_val2017_00.jpg"),
    ("coco", annotation(COCO_JSON, bbox=None), "annotation 100 .* has no bbox"),
    *jsons("custom_coco", CUSTOM_JSON, "images/test_00.jpg"),
    ("custom_coco", annotation(CUSTOM_JSON, never="yes"), "annotation 100 .*'never' 'yes', expected true or false"),
    ("cub", text(CUB + "image_class_labels.txt", "\n11 1", "\n11 3"), "line 11 of .* has class_id '3', not 1 to 2"),
    ("cub", text(CUB + "image_class_labels.txt", "\n11 1", "\n11 bird"), "class_id 'bird', not 1 to 2"),
    ("cub", text(CUB + "train_test_split.txt", "\n11 0", "\n11 2"), "is_training_image '2', not 0 to 1"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 inf"), "line 11 of .*four finite numbers"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 x"), "line 11 of .*expected four finite numbers"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0 ", "\n11 "), "line 11 .* expected 'img_id x y width height'"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 ", "\n99 "), "img_id 11 has no line in CUB_200_2011/bounding_boxes"),
    ("cub", delete(f"{CUB}images/001.Black_footed_Albatross/Bird_0010.jpg"), r"Bird_0010\.jpg does not exist"),
    ("cub", text(CUB + "images.txt", "tross/Bird_0011.jpg\n13", "tross/Bird_0010.jpg\n13"), "0010.jpg is listed twice"),
    ("traveling_birds", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 x"), "line 11 of .*expected four finite numbers"),
    ("traveling_birds", text(CUB + "images.txt", "Albatross/Bird_0010.jpg\n12", "A/b.jpg\n12"), "is no image of CUB"),
    *[(name, fault, message) for name in ("imagenet100", "imagewoof") for fault, message in (
        (lambda root: write_text(root / XML, "<annotation>"), "is not well-formed XML"),
        (lambda root: write_text(root / XML, "<annotation/>"), "has no objects"),
        (text(XML, "n02086240", "n02087394"), "class 'n02087394' .* is not one of the image's own: n02086240"),
        (text(XML, "<xmin>2", "<xmin>left"), "has no <bndbox> with numbers"),
    )],
    ("hard_imagenet", lambda root: write_text(root / "bboxes/val/n02492660/n02492660_val_0.xml", ""), "well-formed XML"),
    *[(name, lambda root: write_text(root / "groups.csv", "image,group\n" + "".join(
        f"{p.relative_to(root / ('images' if (root / 'images').is_dir() else '.')).as_posix()},a\n"
        for p in sorted(root.rglob("*test*.jpg"))[1:])), "has no line in .*groups.csv")
      for name in ("custom_coco", "custom_folders", "custom_masks")],
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("2,3", "2,x")), "line 4 of .*expected four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("2,3", "2,-inf")), "line 4 of .*four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",11", "")), "line 4 of .*expected four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",cat", ",cow")), "unknown class 'cow'; known: cat, dog"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",cat", ",dog")), "class 'dog' is not the image's, .*'cat'"),
    ("custom_folders", text("boxes.csv", CAT, f"{CAT}\n{CAT}"), "line 5 of .*is listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), FAULTS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FAULTS)])
def test_faulty_images_are_named_or_counted(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(tmp_path, name, "test")
    source = load(tmp_path, name, "test", on_error="skip")
    assert (len(source.records), source.skipped) == (LAYOUTS[name].counts["test"] - 1, 1)
    (problem,) = source.problems
    assert re.search(f"(?s){message}", problem)


def entry(path: str, section: str, **values: Any) -> Fault:
    def fault(root: Path) -> None:
        content = json.loads((root / path).read_text())
        content[section].append(values)
        (root / path).write_text(json.dumps(content))

    return fault


STRAYS = [
    *[(name, entry(path, *section, **values), message) for name, path in (("coco", COCO_JSON), ("custom_coco", CUSTOM_JSON))
      for section, values, message in (
        (("annotations",), {"id": 1, "image_id": 99}, "annotation 1 has no image_id that is among the images"),
        (("annotations",), {"id": 1, "image_id": [0]}, "annotation 1 has no image_id that is among the images"),
        (("images",), {"id": 0, "file_name": "new.jpg"}, "image id 0 is listed twice"),
        (("images",), {"id": [0], "file_name": "new.jpg"}, "has no id or file_name"),
        (("images",), {"id": 55}, "has no id or file_name"),
    )],
    ("coco", entry(COCO_JSON, "images", id=55, file_name="instances_val2017_00.jpg"), "_00.jpg is listed twice"),
    ("traveling_birds", lambda root: write_picture(root / "CUB_fixed/test/002.Laysan_Albatross/x.jpg"), "is no image of CUB"),
    ("custom_folders", text("boxes.csv", CAT, f"{CAT}\ntest/cat/x.jpg,cat,1,2,3,4"), r"line 5 .*'test/cat/x.jpg' does not"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), STRAYS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(STRAYS)])
def test_entries_without_an_image_are_named_or_counted(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    with pytest.raises(ValueError, match=message):
        load(tmp_path, name, "test")
    source = load(tmp_path, name, "test", on_error="skip")
    assert (len(source.records), source.skipped) == (LAYOUTS[name].counts["test"], 1)
    (problem,) = source.problems
    assert re.search(message, problem)


BROKEN = [
    *[(name, fault, message) for name, path in (("coco", COCO_JSON), ("custom_coco", CUSTOM_JSON)) for fault, message in (
        (lambda root, path=path: write_text(root / path, '{"images": ['), "is not valid JSON"),
        (lambda root, path=path: (root / path).write_bytes(b"\xff\xfe"), "is not valid JSON"),
        (text(path, '"annotations"', '"annotation"'), "must hold the lists 'images', 'annotations' and 'categories'"),
        (lambda root, path=path: write_text(root / path, "[]"), "must hold the lists"),
        (entry(path, "categories", id=5), "category {'id': 5} has no id .* and name"),
    )],
    ("coco", text(COCO_JSON, '"toothbrush"', '"brush"'), "category 90 is 'brush', but COCO's is 'toothbrush'"),
    ("coco", entry(COCO_JSON, "categories", id=12, name="hat"), "category 12 is 'hat', but COCO's is None"),
    ("coco", entry(COCO_JSON, "categories", id=1, name="man"), "category id 1 is listed twice"),
    ("custom_coco", entry(CUSTOM_JSON, "categories", id=9, name="cow"), "test.json and .*train.json list different"),
    ("custom_coco", entry("train.json", "categories", id=9, name="cat"), "category cat is listed twice"),
    ("custom_coco", lambda root: write_picture(root / "train/cat/x.jpg"), "set data.layout to coco, folders or masks"),
    ("cub", text(CUB + "images.txt", "\n11 ", "\nx "), "line 11 of .*images.txt is 'x .* expected 'img_id image'"),
    ("cub", text(CUB + "images.txt", "\n11 ", "\n12 "), r"img_id 12 is listed twice in .*\(lines 11 and 12\)"),
    ("cub", text(CUB + "classes.txt", "2 002", "3 002"), "class_id 2 has no line in CUB_200_2011/classes.txt"),
    ("traveling_birds", lambda root: (root / "CUB_fixed/test/cow").mkdir(), "cow is a class that the training split does not"),
    ("custom_folders", lambda root: (root / "test/cow").mkdir(), "cow is a class that the training split does not have"),
    ("custom_folders", text("boxes.csv", "x0,y0", "x,y"), "has no column x0, y0; expected the columns image, class"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image\n"), "has no column group"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image,group\na,\n"), "line 2 .* names no group"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image,group\na,b\na,c\n"), "image a is listed twice"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "cat\n"), "line 1 .* expected a WordNet id"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "#\n"), "names no class"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "n02086240\n" * 2), "n02086240 is listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), BROKEN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(BROKEN)])
def test_unusable_files_are_errors_always(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=message) as raised:
            load(tmp_path, name, "test", on_error=on_error)
        assert raised.type is ValueError  # not NoSplitError: the split is there
