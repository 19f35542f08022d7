"""What the checks of images and splits find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from guidance.data import Record
from guidance.data.reading.image_checks import check_image
from guidance.data.reading.split_checks import check_split, compare_splits, table
from tests.support.data.pictures import make_source, read_halves, write_broken, write_picture


def test_check_image_finds_each_mistake(tmp_path: Path) -> None:
    inside, out = (0.0, 0.0, 30.0, 20.0), (0.0, 0.0, 45.0, 20.0)
    boxes = [(0, inside), (1, (5.0, 5.0, 5.0, 9.0)), (1, (9.0, 5.0, 5.0, 9.0)), (2, out), (3, (40.0, 0, 50.0, 20))]
    source = make_source(tmp_path, [boxes])
    record = source.records[0]
    for quick in (False, True):
        found = check_image(source, record, pixels=not quick, segmentations=not quick).found
        empty = "boxes of zero size"
        assert [name for name, _ in found] == [empty, empty, "boxes clipped at the border", "boxes outside the image"]
        assert found[2][1].endswith("0.png sticks out of the image (width 30, height 20) by 15 pixels")
        assert "on_error" not in found[3][1]
    never = record._replace(boxes=(), box_classes=(), never_boxes=((40.0, 0.0, 90.0, 9.0),), never_classes=(1,))
    assert [name for name, _ in check_image(source, never, pixels=True, segmentations=True).found] == [
        "boxes outside the image"
    ]
    write_broken(record.path)
    assert [name for name, _ in check_image(source, record, pixels=True, segmentations=True).found] == [
        "unreadable images"
    ]
    record.path.unlink()
    for quick in (False, True):
        ((name, text),) = check_image(source, record, pixels=not quick, segmentations=not quick).found
        assert name == "unreadable images"
        assert "does not exist" in text


def empty_halves(record: Record) -> Any:
    return {k: torch.zeros_like(mask) for k, mask in read_halves(record).items()}


def small_halves(record: Record) -> Any:
    return {k: mask[:10] for k, mask in read_halves(record).items()}


def test_check_image_reads_segmentations(tmp_path: Path) -> None:
    boxes = [[(0, (0.0, 0.0, 30.0, 20.0))]]
    for read, expected in ((small_halves, "faulty segmentations"), (empty_halves, "empty segmentations")):
        source = make_source(tmp_path, boxes, read_segments=read)
        assert [name for name, _ in check_image(source, source.records[0], pixels=True, segmentations=True).found] == [
            expected
        ]
        assert check_image(source, source.records[0], pixels=False, segmentations=False).found == ()
        # With a cache the image itself need not be decoded a second time, but its segmentation is not in there.
        found = check_image(source, source.records[0], pixels=False, segmentations=True).found
        assert [name for name, _ in found] == [expected]


def test_a_doubt_about_the_size_does_not_hide_a_mask_of_another_one(tmp_path: Path) -> None:
    """As an annotation with a size of its own and a PNG of the masks may have."""
    source = make_source(tmp_path, [[(0, (0.0, 0.0, 30.0, 20.0))]])
    mask = write_picture(tmp_path / "mask.png", height=10, width=10)
    record = source.records[0]._replace(size=(30, 20), segmentation=mask)
    found = check_image(source, record, pixels=False, segmentations=False).found
    assert [name for name, _ in found] == ["images of another size than annotated", "faulty segmentations"]


def test_splits_are_counted_and_compared(tmp_path: Path) -> None:
    full = (0.0, 0.0, 30.0, 20.0)
    one = make_source(tmp_path / "one", [[(0, full), (0, full), (2, full)], [(2, full)], [(1, full)], []])
    one.records[2].path.write_bytes(one.records[1].path.read_bytes())
    records = (*one.records[:2], one.records[2]._replace(boxes=(), box_classes=(), segmentation=None), one.records[3])
    one = one.__class__(**{**vars(one), "records": records})
    two = make_source(tmp_path / "two", [[(3, full)], [(3, full)]])
    for index in range(2):
        write_picture(two.records[index].path, seed=50 + index)
    two.records[1].path.write_bytes(one.records[0].path.read_bytes())
    one = replace(one, problems=("a line",))
    checks = compare_splits([check_split(one), check_split(two, threads=2)])
    first, second = (check.counts for check in checks)
    assert (first["faulty records"], first["copies within the split"], first["images of another split"]) == (1, 1, 0)
    assert (first["images without a region"], first["classes without a region"]) == (2, 1)
    assert second["images of another split"] == 1
    assert [check.mistakes for check in checks] == [1, 1]
    assert "1.png is in train (" in checks[1].problems[0]
    lines = {line.split("  ")[0]: line.split()[-2:] for line in table(checks).splitlines() if line}
    assert lines["images"] == ["4", "2"]
    assert lines["boxes"] == ["4", "2"]
    by_class = [line.split() for line in table(checks).splitlines()[-4:]]
    assert by_class == [["a", "1/1", "0/0"], ["b", "1/0", "0/0"], ["c", "2/2", "0/0"], ["d", "0/0", "2/2"]]


def test_a_class_has_a_region_by_a_box_or_a_segmentation_of_its_own(tmp_path: Path) -> None:
    """Of classes 0 and 3 `read_halves` segments the first only; never boxes are no region, nor is a box of no label."""
    full = (0.0, 0.0, 30.0, 20.0)
    source = make_source(tmp_path, [[(0, full), (3, full)]])
    record = source.records[0]._replace(boxes=(full,), box_classes=(1,), never_boxes=(full,), never_classes=(3,))

    def found(record: Record, quick: bool = False, **changes: Any) -> tuple[dict[int, int], int, int]:
        check = check_split(replace(source, records=(record,), **changes), quick=quick)
        assert all(check.images[k] >= n for k, n in check.annotated.items())
        return dict(check.annotated), check.counts["classes without a region"], check.counts["images without a region"]

    assert found(record) == ({0: 1}, 1, 0)
    assert found(record, quick=True) == ({0: 1, 3: 1}, 0, 0)  # all that the record tells
    assert found(record._replace(box_classes=(3,))) == ({0: 1, 3: 1}, 0, 0)
    assert found(record, read_segments=empty_halves) == found(record, read_segments=small_halves) == ({}, 2, 1)
    assert found(record._replace(segmentation=None)) == ({}, 2, 1)
    write_broken(record.path)
    assert found(record._replace(segmentation=None, box_classes=(0,))) == ({0: 1}, 1, 0)
