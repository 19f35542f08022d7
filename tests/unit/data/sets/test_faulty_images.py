"""Faults that show when an image of a data set is read, and its segmentations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from guidance.data import UnreadableError
from guidance.data.reading.preflight import preflight
from tests.support.data.layouts import BOX, HEIGHT, LAYOUTS, OBJECT, WIDTH, write_text
from tests.support.data.pictures import write_broken, write_picture
from tests.support.data.sources import (
    CAT,
    COCO_JSON,
    CUB,
    CUSTOM_JSON,
    VOC,
    XML,
    Fault,
    annotation,
    load,
    made,
    sample_of,
    text,
)

ZERO, OUT, BEYOND = "has no area", "sticks out of the image", "lies outside of the image"
BOXES: list[tuple[str, Fault, str]] = [
    ("voc", text(VOC + "Annotations/7.xml", "<xmax>12", "<xmax>2"), ZERO),
    ("voc", text(VOC + "Annotations/7.xml", "<xmax>12", "<xmax>120"), OUT),
    ("voc", text(VOC + "Annotations/7.xml", "<xmin>3</xmin><ymin>4</ymin><xmax>12", "<xmin>50</xmin><ymin>4</ymin><xmax>60"),
     BEYOND),
    ("waterbirds", text(CUB + "bounding_boxes.txt", "12 0.0 0.0 5.0", "12 0.0 0.0 0.0"), ZERO),
    ("waterbirds", text(CUB + "bounding_boxes.txt", "12 0.0 0.0 5.0", "12 0.0 0.0 99"), OUT),
    ("waterbirds", text(CUB + "bounding_boxes.txt", "12 0.0 0.0 5.0", "12 0.0 20.0 5.0"), BEYOND),
    *[(name, annotation(path, bbox=bbox), message) for name, path in (("coco", COCO_JSON), ("custom_coco", CUSTOM_JSON))
      for bbox, message in (([2, 3, 10, 0], ZERO), ([-9, 3, 10, 8], OUT), ([-9, 3, 8, 8], BEYOND))],
    *[(name, text(CUB + "bounding_boxes.txt", f"\n11 2.0 3.0 {old}", f"\n11 2.0 3.0 {new}"), message)
      for name in ("cub", "traveling_birds") for old, new, message in (("10.0", "-1", ZERO), ("10.0", "40", OUT))],
    *[(name, text(XML, "<xmax>12", f"<xmax>{new}"), message)
      for name in ("imagenet100", "imagewoof") for new, message in (("2", ZERO), ("99", OUT))],
    ("hard_imagenet", lambda root: write_text(root / "bboxes/val/n02492660_val_0.xml",
     f"<a>{OBJECT.format(name='n02492660', difficult=0, box=(2, 3, 2, 3))}</a>"), ZERO),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("12", "2")), ZERO),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("12", "99")), OUT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), BOXES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(BOXES)])
def test_boxes_that_stick_out_are_clipped_and_impossible_ones_are_named(
    tmp_path: Path, name: str, fault: Fault, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In each sample, and before the first of them: `preflight` finds the same."""
    fault(made(tmp_path, name))
    source = load(tmp_path, name, "test")
    index = next(i for i, record in enumerate(source.records) if record.boxes and record.boxes[0] != BOX)
    if message == OUT:
        sample = sample_of(source, index)
        assert (sample.clipped, sample.skipped, len(sample.masks)) == (1, 0, 1)
        preflight(source, pixels=False, segmentations=False, on_error="raise")
        assert re.search(rf"boxes clipped at the border \(1\)\n  box .* of image .* {OUT}", caplog.text)
        return
    for find in (
        lambda: sample_of(source, index),
        lambda: preflight(source, pixels=False, segmentations=False, on_error="raise"),
    ):
        with pytest.raises(ValueError, match=rf"box .* of image .* {message}"):
            find()
    sample = sample_of(source, index, on_error="skip")
    assert (sample.skipped, len(sample.masks), sample.kept) == (1, 0, True)
    preflight(source, pixels=True, segmentations=True, on_error="skip")
    assert re.search(rf"left out: .*boxes .* \(1\)\n  box .* {message}", caplog.text)


@pytest.mark.parametrize("name", LAYOUTS)
def test_unreadable_images_are_named_or_counted(tmp_path: Path, name: str) -> None:
    source = load(made(tmp_path, name), name, "test")
    write_broken(source.records[0].path)
    with pytest.raises(UnreadableError, match=f"image .*{source.records[0].path.name} cannot be read"):
        sample_of(source)
    assert sample_of(source, on_error="skip").kept is False


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("voc", "waterbirds")])
def test_segmentations_cover_the_object(tmp_path: Path, name: str) -> None:
    source = load(made(tmp_path, name), name, "test")
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[3:11, 2:12] = True
    shown = [record for record in source.records if record.segmentation is not None]
    assert bool(shown) == (name not in ("imagenet100", "imagewoof", "custom_folders"))
    assert (source.read_segments is not None) == bool(shown)
    for record in shown:
        assert source.read_segments is not None
        found = source.read_segments(record)
        assert list(found) == list(record.classes)
        assert torch.equal(found[record.classes[0]], inside)
        assert record.boxes in ((), (BOX,))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cub", f"{CUB}segmentations/001.Black_footed_Albatross/Bird_0010.png"),
        ("traveling_birds", "segmentations/001.Black_footed_Albatross/Bird_0010.png"),
        ("hard_imagenet", "masks/val/n02492660/n02492660_val_0.png"),
        ("custom_masks", "masks/test/cat/cat_test_0.png"),
    ],
)
def test_segmentations_that_cannot_be_used(tmp_path: Path, name: str, path: str) -> None:
    made(tmp_path, name)
    (tmp_path / path).unlink()
    assert load(tmp_path, name, "test").records[0].segmentation is None
    write_broken(tmp_path / path)
    with pytest.raises(UnreadableError, match=r"segmentation .* cannot be read"):
        sample_of(load(tmp_path, name, "test"), region="segment")
    write_picture(tmp_path / path, height=5)
    with pytest.raises(UnreadableError, match="both must have the same size"):
        sample_of(load(tmp_path, name, "test"), region="segment")
    assert sample_of(load(tmp_path, name, "test"), region="segment", on_error="skip").skipped == 1
