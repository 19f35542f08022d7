"""COCO: the real sample against pycocotools, and what is its own: splits, crowds, shapes of segmentations."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as codes
from pycocotools.coco import COCO

from guidance.data import GuidanceDataset, RegionOptions, UnreadableError, eval_transform
from guidance.data.sets.coco import CLASSES, GAPS, LABELS, load_coco
from guidance.data.splits import train_or_val
from tests.support.data.layouts import HEIGHT, LAYOUTS, WIDTH, write_instances
from tests.support.data.pictures import write_picture

MISSING_IDS = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # of 0 to 90, as the published code lists them


def test_labels_are_the_published_ones() -> None:
    kept = [key for key in range(91) if key not in MISSING_IDS]
    assert [LABELS[key] for key in kept] == list(range(80))
    assert set(LABELS) == set(kept)
    assert GAPS | {0} == MISSING_IDS
    assert (CLASSES[0], CLASSES[11], CLASSES[79]) == ("person", "stop sign", "toothbrush")


@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_sample_equals_pycocotools(coco_root: Path, part: str) -> None:
    oracle = COCO(coco_root / "annotations" / f"instances_{part}.json")
    source = load_coco(coco_root, part, year="2017")
    labelled = [key for key in oracle.getImgIds() if oracle.getAnnIds(imgIds=key)]
    assert len(source.records) == len(labelled)
    assert source.skipped == 100 - len(labelled)
    assert source.read_segments is not None
    ids = oracle.getCatIds()
    assert [category["name"] for category in oracle.loadCats(ids)] == list(source.classes)
    counts: Counter[int] = Counter()
    for key, record in zip(labelled, source.records, strict=True):
        found = oracle.loadAnns(oracle.getAnnIds(imgIds=key))
        labels = [ids.index(item["category_id"]) for item in found]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (item["bbox"] for item in found)]
        assert record.path == coco_root / part / oracle.imgs[key]["file_name"]
        assert record.classes == tuple(sorted(set(labels)))
        assert (record.box_classes, record.boxes) == (tuple(labels), tuple(corners))
        counts.update(record.classes)
        segments = source.read_segments(record)
        assert sorted(segments) == sorted(set(labels))
        for label, mask in segments.items():
            parts = [oracle.annToMask(item) for item in found if item["category_id"] == ids[label]]
            assert np.array_equal(mask.numpy(), np.maximum.reduce(parts) > 0)
    for label, key in enumerate(ids):
        assert counts[label] == len(oracle.getImgIds(catIds=[key]))


def test_sample_crowds_are_an_option(coco_root: Path) -> None:
    for part, crowds in (("train2017", 6), ("val2017", 5)):
        every, few = (load_coco(coco_root, part, year="2017", crowd=crowd) for crowd in (True, False))
        boxes = [sum(len(record.boxes) for record in source.records) for source in (every, few)]
        assert boxes[0] - boxes[1] == crowds


def test_sample_segments_lie_in_their_boxes(coco_root: Path) -> None:
    source = load_coco(coco_root, "test", year="2017")
    data = GuidanceDataset(source, eval_transform(64), training=False, regions=RegionOptions(load_segments=True))
    inside, total = 0, 0
    for index in range(20):
        sample = data[0, index]
        assert sample.segments is not None
        inside += int((sample.segments & sample.masks).sum())
        total += int(sample.segments.sum())
    assert inside > 0.97 * total > 0


def test_the_held_out_share_has_the_published_size() -> None:
    names = [f"COCO_train2014_{i:012d}.jpg" for i in range(82_081)]
    parts = {split: train_or_val(names, split, names=names, fraction=0.1, seed=0) for split in ("train", "val")}
    assert (len(parts["train"]), len(parts["val"])) == (73_872, 8_209)
    # Ranked by a hash, so that the choice does not change with the order of the names or the version of a library.
    assert [int(name[15:27]) for name in parts["val"][:3]] == [10, 14, 28]
    backwards = names[::-1]
    assert train_or_val(backwards, "val", names=backwards, fraction=0.1, seed=0)[::-1] == parts["val"]


def make_2014(root: Path) -> None:
    for part, count in (("train2014", 20), ("val2014", 4)):
        write_instances(root / f"annotations/instances_{part}.json", {1: "person", 3: "car"}, root / part, count)


def test_the_published_split_is_read_where_it_is(tmp_path: Path) -> None:
    make_2014(tmp_path)
    assert [len(load_coco(tmp_path, split).records) for split in ("train", "val", "test")] == [18, 2, 4]
    for split, count in (("train", 15), ("val", 5)):
        path = tmp_path / f"annotations/train2014_{split}_split.json"
        write_instances(path, {1: "person", 3: "car"}, tmp_path / "train2014", count)
        if split == "train":
            with pytest.raises(ValueError, match=r"train2014_val_split\.json does not exist"):
                load_coco(tmp_path, "val")
    assert [len(load_coco(tmp_path, split).records) for split in ("train", "val", "test")] == [15, 5, 4]
    assert load_coco(tmp_path, "val").records[0].path == tmp_path / "train2014/train2014_val_split_00.jpg"
    assert len(load_coco(tmp_path, "train2014").records) == 20


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    content["annotations"][0].update(values)
    path.write_text(json.dumps(content))


def test_images_without_a_label_are_counted_once(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    for part in ("train2017", "val2017"):
        change(tmp_path / f"annotations/instances_{part}.json", iscrowd=1)
        path = tmp_path / f"annotations/instances_{part}.json"
        content = json.loads(path.read_text())
        content["images"].append({"id": 77, "file_name": "empty.jpg", "height": HEIGHT, "width": WIDTH})
        path.write_text(json.dumps(content))  # its file is not needed
    splits = ("train", "val", "test")
    every, few = ([load_coco(tmp_path, split, year="2017", crowd=crowd) for split in splits] for crowd in (True, False))
    assert [source.skipped for source in every] == [1, 0, 1]
    assert [source.skipped for source in few] == [2, 0, 2]
    assert [len(source.records) for source in few] == [17, 2, 7]


def test_every_shape_of_a_segmentation(tmp_path: Path) -> None:
    """Polygons in two parts, a list of run lengths, a code, and the union of a class; class 2 has none."""
    path = tmp_path / "annotations/instances_val2017.json"
    write_instances(path, {1: "person", 2: "bicycle", 3: "car"}, tmp_path / "val2017", 1)
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    two = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14.5, 10, 14.5, 15.25, 10, 15.25]]
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}  # the first column
    last = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    last[:, -1] = 1
    code = codes.encode(last)
    text = {"size": code["size"], "counts": code["counts"].decode()}
    shapes = [(1, two), (1, runs), (2, []), (3, text)]
    content["annotations"] = [
        first | {"id": i, "category_id": key, "segmentation": shape} for i, (key, shape) in enumerate(shapes)
    ]
    path.write_text(json.dumps(content))
    source = load_coco(tmp_path, "test", year="2017")
    assert source.read_segments is not None
    found = pickle.loads(pickle.dumps(source.read_segments))(source.records[0])  # as a loader worker gets it
    assert sorted(found) == [0, 2]
    assert torch.equal(found[2], torch.from_numpy(last > 0))
    expected = codes.decode(codes.merge(codes.frPyObjects(two, HEIGHT, WIDTH))) > 0
    expected[:, 0] = True
    assert np.array_equal(found[0].numpy(), expected)
    assert 40 < expected.sum() < 80


def test_a_shape_that_cannot_be_decoded_is_named_when_the_file_is_read(tmp_path: Path) -> None:
    """Before any image is: a loader worker that decoded it would hang, or die; see test_shapes for all of them."""
    LAYOUTS["coco"].make(tmp_path)
    change(tmp_path / "annotations/instances_val2017.json", segmentation={"size": [HEIGHT, WIDTH], "counts": [7]})
    with pytest.raises(
        ValueError, match=r"annotation 100 of image .*_00\.jpg' in .*val2017\.json has .* add up to 7, but"
    ):
        load_coco(tmp_path, "test", year="2017")
    source = load_coco(tmp_path, "test", year="2017", on_error="skip")
    assert (len(source.records), source.skipped) == (7, 1)


def test_sizes_of_an_annotation_are_compared_with_the_file_before_large_masks_are_made(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"height": 20, "width": 30', '"height": 16000, "width": 16000', 1))
    source = load_coco(tmp_path, "test", year="2017")
    data = GuidanceDataset(source, eval_transform(8), training=False, regions=RegionOptions(load_segments=True))
    with pytest.raises(UnreadableError, match=r"_00\.jpg in .* cannot be decoded \(it is 16000 x 16000 pixels"):
        data[0, 0]
    data = GuidanceDataset(
        source, eval_transform(8), training=False, regions=RegionOptions(load_segments=True), on_error="skip"
    )
    assert data[0, 0].skipped == 1


def test_an_annotation_may_forbid_a_place(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    change(tmp_path / "annotations/instances_val2017.json", image_id=1, never=True)
    source = load_coco(tmp_path, "test", year="2017")
    assert (len(source.records), source.skipped) == (7, 1)  # image 0 has no label any more
    assert (source.records[0].never_boxes, source.records[0].never_classes) == (((2, 3, 12, 11),), (0,))
    assert (source.records[0].classes, source.records[0].box_classes) == ((79,), (79,))


def test_a_code_of_another_size_is_named(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    write_picture(tmp_path / "val2017/instances_val2017_01.jpg", height=8)
    source = load_coco(tmp_path, "test", year="2017")
    with pytest.raises(ValueError, match=r"both must have the same size|sticks out"):
        GuidanceDataset(source, eval_transform(8), training=False, regions=RegionOptions(load_segments=True))[0, 1]


def test_polygons_need_the_size_of_their_image(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"height": 20, "width": 30', '"height": 20'))
    with pytest.raises(ValueError, match=r"annotation 100 .*polygons, but its image has no height and width"):
        load_coco(tmp_path, "test", year="2017")
    assert len(load_coco(tmp_path, "test", year="2017", on_error="skip").records) == 4  # codes know their size


def test_only_polygons_and_codes_are_kept_for_workers(tmp_path: Path) -> None:
    LAYOUTS["coco"].make(tmp_path)
    source = load_coco(tmp_path, "test", year="2017")
    assert len(pickle.dumps(source.read_segments)) < 4000
