"""Images of one's own: layouts, labels and segmentations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly.sets import build_source
from guidance.config import parse_config
from guidance.data import GuidanceDataset, RegionOptions, Source, eval_transform
from guidance.data.sets.custom import load_custom
from guidance.regions import BOX as BOX_KIND
from guidance.regions import SEGMENT
from tests.support.data.datasets import make_dataset
from tests.support.data.layouts import (
    BOX,
    WIDTH,
    make_custom_coco,
    make_custom_folders,
    make_custom_masks,
    write_text,
)


def names(source: Source) -> list[str]:
    return [record.path.name for record in source.records]


def test_layouts_are_recognised_or_chosen(tmp_path: Path) -> None:
    for make, layout in ((make_custom_coco, "coco"), (make_custom_folders, "folders"), (make_custom_masks, "masks")):
        make(tmp_path / layout)
        found, chosen = load_custom(tmp_path / layout, "test"), load_custom(tmp_path / layout, "test", layout=layout)
        assert found.records == chosen.records
        assert found.classes == (
            ("dog", "cat") if layout == "coco" else ("cat", "dog")
        )  # a JSON's ids, or the alphabet
    assert load_custom(tmp_path / "masks", "test", layout="folders").read_segments is None
    make_custom_folders(tmp_path / "coco")
    assert load_custom(tmp_path / "coco", "test", layout="folders").single_label
    assert len(load_custom(tmp_path / "coco", "test", layout="coco").records) == 8
    with pytest.raises(ValueError, match=r"unknown layout of custom .*'coc'.*Did you mean 'coco'"):
        load_custom(tmp_path / "coco", "test", layout="coc")
    with pytest.raises(ValueError, match=r"with the layout 'folders' every image has one class"):
        load_custom(tmp_path / "folders", "test", multi_label=True)
    (tmp_path / "empty/images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"(?s)train\.json does not exist.*ROOT/images"):
        load_custom(tmp_path / "empty", "train")


def test_a_folder_or_file_of_its_own_is_no_share(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    shutil.copytree(tmp_path / "test", tmp_path / "val")
    assert [len(load_custom(tmp_path, split).records) for split in ("train", "val", "test")] == [20, 8, 8]
    (tmp_path / "night").mkdir()
    shutil.copytree(tmp_path / "test/cat", tmp_path / "night/cat")
    assert len(load_custom(tmp_path, "night").records) == 4  # a class may be absent, except in training
    root = tmp_path / "json"
    make_custom_coco(root)
    (root / "train.json").rename(root / "annotations.json")
    assert [len(load_custom(root, split).records) for split in ("train", "val", "test")] == [16, 4, 8]
    shutil.copy(root / "test.json", root / "val.json")
    assert [len(load_custom(root, split).records) for split in ("train", "val")] == [20, 8]
    with pytest.raises(ValueError, match="unknown split of custom 'annotations'"):
        load_custom(root, "annotations")


def edit_annotations(path: Path, changes: list[dict[str, Any]]) -> None:
    """Update the first annotations of a JSON; None removes a key."""
    content = json.loads(path.read_text())
    for entry, change in zip(content["annotations"], changes, strict=False):
        entry.update(change)
        for key in [key for key, value in change.items() if value is None]:
            del entry[key]
    path.write_text(json.dumps(content))


def test_a_json_may_forbid_places_and_leave_out_boxes(tmp_path: Path) -> None:
    make_custom_coco(tmp_path)
    # Image 0: a label without a box, and a place where its evidence must not lie. Image 2: only the latter, so no label.
    changes = [
        {"bbox": None, "segmentation": None},
        {"image_id": 0, "never": True, "category_id": 3},
        {"never": True},
        {"never": False},
    ]
    edit_annotations(tmp_path / "test.json", changes)
    source = load_custom(tmp_path, "test")
    assert names(source)[:2] == ["test_00.jpg", "test_03.jpg"]
    assert source.skipped == 2  # images 1 and 2 have no label
    first, second = source.records[:2]
    assert (first.classes, first.boxes, first.segmentation) == ((0,), (), None)
    assert (first.never_boxes, first.never_classes) == ((BOX,), (0,))
    assert (second.boxes, second.never_boxes) == ((BOX,), ())
    sample = GuidanceDataset(source, eval_transform(WIDTH), training=False)[0, 0]
    inside = torch.zeros(WIDTH, WIDTH, dtype=torch.bool)
    inside[5:16, 2:12] = True  # 3 to 11 of 20 rows
    assert sample.never is not None
    assert (sample.never[0] ^ inside).sum() <= 20
    edit_annotations(tmp_path / "test.json", [{}, {"bbox": None}])
    with pytest.raises(ValueError, match=r"annotation 101 of image 'test_00\.jpg' in .*test\.json has no bbox"):
        load_custom(tmp_path, "test")


def test_several_labels_are_a_setting(tmp_path: Path) -> None:
    make_custom_coco(tmp_path)
    edit_annotations(tmp_path / "test.json", [{}, {"image_id": 0}])
    with pytest.raises(ValueError, match=r"test_00\.jpg has 2 classes; set data.multi_label to true"):
        load_custom(tmp_path, "test", on_error="skip")
    source = load_custom(tmp_path, "test", multi_label=True)
    assert (source.records[0].classes, source.single_label) == ((0, 1), False)
    data = {"name": "custom", "root": str(tmp_path)}
    with pytest.raises(ValueError, match="images of custom have several labels"):
        parse_config({"data": data | {"multi_label": True}, "objective": {"classification": "cross_entropy"}})
    config = parse_config({"data": data, "objective": {"classification": "cross_entropy"}})
    assert build_source(config, "train").single_label


def test_masks_of_no_image_are_named_or_counted(tmp_path: Path) -> None:
    make_custom_masks(tmp_path)
    (tmp_path / "masks/train/cat/cat_train_0.png").rename(tmp_path / "masks/train/cat/cat_train_0.jpg")
    for name in ("train/cat/x.png", "train/dog/deep/dog_train_0.png", "test/x.png", "cats/cat_train_0.png"):
        write_text(tmp_path / "masks" / name, "")
    for name in ("train/cat/.DS_Store", "train/.checkpoints/x.png", ".DS_Store"):
        write_text(tmp_path / "masks" / name, "")
    for split in ("train", "val"):
        with pytest.raises(
            ValueError, match=r"masks/train/cat/cat_train_0\.jpg .* expected .*/cat_train_0\.png \(data"
        ):
            load_custom(tmp_path, split)
    sources = [load_custom(tmp_path, split, on_error="skip") for split in ("train", "val", "test")]
    assert [source.skipped for source in sources] == [4, 0, 1]
    strays = [Path(text.removeprefix("mask ").split()[0]).name for text in sources[0].problems]
    assert strays == ["cat_train_0.jpg", "x.png", "dog_train_0.png", "cats"]
    assert [len(source.records) for source in sources] == [16, 4, 8]
    for name in ("cat/cat_train_0.jpg", "cat/x.png", "dog/deep/dog_train_0.png"):
        (tmp_path / "masks/train" / name).unlink()
    with pytest.raises(
        ValueError, match=r"masks/cats belongs to no split of .*; expected masks as .*/cat_train_0\.png"
    ):
        load_custom(tmp_path, "train")


def test_two_files_of_training_images_are_an_error(tmp_path: Path) -> None:
    make_custom_coco(tmp_path)
    shutil.copy(tmp_path / "train.json", tmp_path / "annotations.json")
    for split in ("train", "val", "test"):
        with pytest.raises(ValueError, match=r"train\.json and annotations\.json, .*remove annotations\.json, or"):
            load_custom(tmp_path, split, on_error="skip")


def test_a_class_is_segmented_only_if_all_of_its_boxes_are(tmp_path: Path) -> None:
    """Image 0: two objects of class 0, the second without a polygon. Image 4: its second one is a place to avoid."""
    make_custom_coco(tmp_path)
    content = json.loads((tmp_path / "test.json").read_text())
    other = {"category_id": 3, "bbox": [20, 3, 8, 8]}
    content["annotations"] += [
        {"id": 1, "image_id": 0, **other},
        {"id": 2, "image_id": 0, **other, "category_id": 7, "segmentation": [[20, 3, 28, 3, 28, 11]]},
        {"id": 3, "image_id": 4, **other, "never": True},
        {"id": 4, "image_id": 4, "category_id": 3},  # without a bbox: nothing that a segmentation could leave out
        {"id": 5, "image_id": 2, **other, "segmentation": []},
    ]
    (tmp_path / "test.json").write_text(json.dumps(content))
    source = load_custom(tmp_path, "test", multi_label=True)

    def kinds(index: int, region: str) -> dict[int, int]:
        found = make_dataset(source, eval_transform(WIDTH), region=region)[0, index]
        assert found.kinds is not None
        return dict(zip(found.classes.tolist(), found.kinds.tolist(), strict=True))

    assert kinds(0, "best") == {0: BOX_KIND, 1: SEGMENT}
    assert kinds(0, "segment") == {1: SEGMENT}
    assert kinds(4, "best") == {0: SEGMENT}
    assert source.records[2].segmentation is None
    found = GuidanceDataset(source, eval_transform(WIDTH), training=False, regions=RegionOptions(region="best"))[0, 0]
    assert found.masks[0, :, 21:27].any()  # the second object is not lost


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also of records whose line could not be understood, which no later check can look at."""
    make_custom_folders(tmp_path)
    lines = [f"train/dog/dog_train_1.jpg,cat,1,2,3,{end}\n" for end in range(4, 12)]
    write_text(tmp_path / "boxes.csv", "image,class,x0,y0,x1,y1\n" + "".join(lines))
    config = parse_config({
        "data": {"name": "custom", "root": str(tmp_path), "on_error": "skip"}, "model": {"name": "resnet18"},
    })  # fmt: skip
    source = build_source(config, "train")
    assert source.skipped == len(source.problems) > 0
    assert f"custom train: {source.skipped} records left out: without a label, or faulty" in caplog.text
    assert source.problems[0] in caplog.text
