"""Exports of Label Studio and CVAT, and masks with a class for each value."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidance.data.formats import AnnotatedObject, Annotations
from guidance.data.formats.class_masks import read_class_masks
from guidance.data.formats.cvat import read_cvat
from guidance.data.formats.geometry import STORED, decode_brush, encode_mask, stored_segmentation
from guidance.data.formats.label_studio import read_label_studio
from guidance.data.making.shapes import decode_shapes
from guidance.data.reading.decode import UPRIGHT
from tests.support.data.layouts import write_text
from tests.support.data.pictures import write_picture

SIZE = {"original_width": 30, "original_height": 20}


def counts(found: Annotations) -> dict[str, int]:
    return {what: len(places) for what, places in found.lost.items()}


def objects(found: Annotations) -> dict[str, tuple[AnnotatedObject, ...]]:
    return {image.name: image.objects for image in found.images}


def write_bits(numbers: list[tuple[int, int]]) -> list[int]:
    """(value, bits) after another, as bytes."""
    text = "".join(f"{value:0{bits}b}" for value, bits in numbers)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def brush(mask: np.ndarray) -> list[int]:
    """A code of the brush for a mask [H, W], by a run for each stretch of it, long and short, and single values."""
    alpha = (mask.astype(int) * 255).flatten().tolist()
    values = [each for a in alpha for each in (7, 8, 9, a)]  # colours do not matter
    head = [(len(values), 32), (7, 5), (3, 4), (7, 4), (9, 4), (15, 4)]
    runs: list[tuple[int, int]] = []
    for start in range(0, len(values), 16):
        part = values[start : start + 16]
        runs += [(0, 1), (0, 2), (len(part) - 1, 4), *((value, 8) for value in part)]
    return write_bits(head + runs)


def test_the_code_of_the_brush() -> None:
    mask = np.zeros((6, 5), bool)
    mask[1:4, 2:] = True
    assert np.array_equal(decode_brush(brush(mask), (6, 5)), mask)
    head = [(4 * 30, 32), (7, 5), (3, 4), (7, 4), (9, 4), (15, 4)]
    filled = write_bits([*head, (1, 1), (1, 2), (4 * 30 - 1, 8), (255, 8)])  # one run
    assert decode_brush(filled, (6, 5)).all()
    for code, message in (
        (filled[:-2], "breaks off"),
        ("text", "no list of bytes"),
        (brush(mask[:5]), "of 100 values"),
    ):
        with pytest.raises(ValueError, match=message):
            decode_brush(code, (6, 5))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_points_and_masks_go_back_to_the_stored_frame(orientation: int) -> None:
    stored = torch.zeros(1, 4, 6, dtype=torch.uint8)
    stored[0, 1, 4] = 1
    shown = UPRIGHT[orientation](stored)[0]
    ((row, column),) = shown.nonzero().tolist()
    assert STORED[orientation](column + 0.5, row + 0.5, 4, 6) == (4.5, 1.5)
    code = stored_segmentation(encode_mask(shown.bool().numpy()), orientation, (4, 6))
    assert torch.equal(decode_shapes([((4, 6), code)]), stored[0].bool())


def rectangle(x: float, y: float, w: float, h: float, label: Any, **more: Any) -> dict[str, Any]:
    labels = {"rectanglelabels": [label]} if label else {}
    value = {"x": x, "y": y, "width": w, "height": h, **labels, **more}
    return {"type": "rectanglelabels", "value": value, **SIZE}


PAINTED = np.zeros((20, 30), bool)
PAINTED[5:9, 10:20] = True


def label_studio_tasks() -> list[dict[str, Any]]:
    """An image with every kind of result, two without a usable one, and two that are not there."""
    corners = [[0, 0], [50, 0], [50, 50]]
    results = [
        rectangle(10, 20, 50, 40, "cat", rotation=0),
        rectangle(50, 0, 20, 30, "cat", rotation=90),
        rectangle(1, 1, 5, 5, None),
        {"type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["dog", "cat"]}, **SIZE},
        {"type": "brushlabels", "value": {"format": "rle", "rle": brush(PAINTED), "brushlabels": ["cat"]}, **SIZE},
        {"type": "choices", "value": {"choices": ["good"]}},
        {"type": "relation", "from_id": "a"},
        {"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["eye"]}, **SIZE},
    ]
    annotations = [
        {"was_cancelled": True, "result": [rectangle(0, 0, 1, 1, "dog")]},
        {"result": [rectangle(0, 0, 2, 2, "dog")]},
        {"ground_truth": True, "result": results},
    ]
    larger = {**rectangle(0, 0, 50, 50, "cat"), "original_width": 60, "original_height": 40}
    upload = {"text": "no image", "image": "/data/upload/3/1a2b3c4d-my_photo_1.jpg"}
    return [
        {"data": upload, "predictions": [{"result": []}], "annotations": annotations},
        {"data": {"picture": "/data/local-files/?d=deep%2F%C3%A9.png"}, "annotations": []},
        {
            "data": {"image": "s3://bucket/x/plain.jpg?token=1"},
            "annotations": [{"result": [rectangle("a", 0, 1, 1, "cat"), larger]}],
        },
        {"data": {"image": "https://host/gone.jpg"}},
        {"data": {"image": "https://host/"}},
    ]


def test_label_studio(tmp_path: Path) -> None:
    for name in ("my photo (1).jpg", "deep/é.png", "plain.jpg", "left.jpg"):
        write_picture(tmp_path / "images" / name)
    path = write_text(tmp_path / "export.json", "\ufeff" + json.dumps(label_studio_tasks()))
    found = read_label_studio(path, tmp_path / "images")
    assert found.classes == ("cat", "dog")
    plain, turned, *polygons, painted = objects(found)["my photo (1).jpg"]
    assert plain == AnnotatedObject("cat", (3, 4, 18, 12))
    # 6 x 6 pixels with the corner (15, 0), turned by a quarter around it: it now lies left of it.
    assert turned.box == pytest.approx((9, 0, 15, 6), abs=1e-9)
    outline = [[0, 0, 15, 0, 15, 10]]
    assert polygons == [AnnotatedObject(label, (0, 0, 15, 10), outline) for label in ("dog", "cat")]
    assert painted.box == (10, 5, 20, 9)
    assert np.array_equal(decode_shapes([((20, 30), painted.segmentation)]).numpy(), PAINTED)
    assert objects(found)["deep/é.png"] == objects(found)["plain.jpg"] == ()
    assert counts(found) == {
        "predictions of a model": 1, "annotations that were cancelled": 1, "further annotations of the same image": 1,
        "rotated boxes, kept as the upright box around them": 1, "results without a class": 1,
        "results of the type 'choices'": 1, "results of the type 'relation'": 1, "results of the type 'keypointlabels'": 1,
        "images of the folder that no annotation names, left out": 1,
    }  # fmt: skip
    for part in (
        "in place of two numbers in per cent",
        "gone.jpg' is not in",
        "names no image",
        "an image of (40, 60) pixels",
    ):
        assert any(part in fault for fault in found.faults), part
    assert len(found.faults) == 4


def test_label_studio_in_short(tmp_path: Path) -> None:
    """The export JSON-MIN."""
    write_picture(tmp_path / "images/1.jpg")
    value = rectangle(10, 20, 50, 40, "cat")["value"] | SIZE
    path = write_text(tmp_path / "min.json", json.dumps([{"id": 1, "image": "/data/upload/1.jpg", "label": [value]}]))
    assert objects(read_label_studio(path, tmp_path / "images")) == {"1.jpg": (AnnotatedObject("cat", (3, 4, 18, 12)),)}
    with pytest.raises(ValueError, match="no list of tasks"):
        read_label_studio(write_text(tmp_path / "x.json", "{}"), tmp_path / "images")


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label><label><name>dog</name></label>
</labels></task></meta>{}</annotations>"""


def test_cvat(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "2.jpg", "3.jpg"):
        write_picture(tmp_path / "images" / name)
    runs = "0, 3, 2, 1"  # of a rectangle of 3 x 2
    body = f"""
<image id="0" name="a/1.jpg" width="30" height="20" subset="Train">
  <box label="cat" occluded="1" xtl="3.5" ytl="4.25" xbr="18" ybr="12"><attribute name="age">old</attribute></box>
  <box label="dog" xtl="10" ytl="8" xbr="20" ybr="12" rotation="30.0"/>
  <polygon label="cat" points="0.00,0.00;15,0;15,10"/>
  <mask label="dog" rle="{runs}" left="4" top="5" width="3" height="2"/>
  <tag label="dog"/><polyline label="cat" points="1,1;2,2"/><points label="cat" points="1,1"/><ellipse label="cat"/>
</image>
<image id="1" name="2.jpg" width="30" height="20" subset="validation">
  <box label="cow" xtl="3" ytl="4" xbr="18" ybr="12"/><box label="cat" xtl="3" ytl="4" xbr="18"/>
  <mask label="dog" rle="1, 2" left="4" top="5" width="3" height="2"/><polygon label="cat" points="1,1;2"/>
</image>
<image id="2" name="gone.jpg" width="30" height="20"/>
<track id="0" label="cat"/>"""
    found = read_cvat(write_text(tmp_path / "annotations.xml", CVAT.format(body)).parent, tmp_path / "images")
    assert found.classes == ("cat", "dog")
    assert {image.name: image.split for image in found.images} == {"a/1.jpg": "train", "2.jpg": "val"}
    plain, turned, polygon, painted, tag = objects(found)["a/1.jpg"]
    assert plain == AnnotatedObject("cat", (3.5, 4.25, 18, 12))
    half = 5 * math.cos(math.pi / 6) + 2 * math.sin(math.pi / 6), 5 * math.sin(math.pi / 6) + 2 * math.cos(math.pi / 6)
    assert turned.box == pytest.approx((15 - half[0], 10 - half[1], 15 + half[0], 10 + half[1]))
    assert polygon == AnnotatedObject("cat", (0, 0, 15, 10), [[0, 0, 15, 0, 15, 10]])
    assert painted.box == (4, 5, 7, 7)
    assert decode_shapes([((20, 30), painted.segmentation)]).nonzero().tolist() == [[5, 4], [5, 5], [5, 6], [6, 6]]
    assert tag == AnnotatedObject("dog", None)
    assert counts(found) == {
        "tracks of videos": 1, "attributes of objects": 1, "marks 'occluded'": 1, "polylines": 1, "points": 1,
        "ellipses": 1, "rotated boxes, kept as the upright box around them": 1,
        "images of the folder that no annotation names, left out": 1,
    }  # fmt: skip
    for part in ("label 'cow'", "<box> of image 2.jpg", "do not fill", "<polygon> of image 2.jpg", "gone.jpg' is not"):
        assert any(part in fault for fault in found.faults), part
    assert len(found.faults) == 5
    with pytest.raises(ValueError, match="CVAT for images"):
        read_cvat(write_text(tmp_path / "x.xml", "<annotations/>"), tmp_path / "images")


def test_masks_with_a_class_for_each_value(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "3.jpg", "4.jpg"):
        write_picture(tmp_path / "images" / name)
    values = np.zeros((20, 30), np.uint8)
    values[2:6, 3:9], values[6, 9] = 1, 1  # joined at a corner
    values[15:, 20:], values[10:12] = 1, 7
    values[0, 0] = 255
    (tmp_path / "masks/a").mkdir(parents=True)
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([0, 0, 0] + [200, 3, 9] * 255)
    palette.putdata(values.flatten().tolist())
    palette.save(tmp_path / "masks/a/1.png")
    Image.fromarray(np.where(values == 7, 3, 0).astype(np.uint8)).save(tmp_path / "masks/a/2.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "masks/3.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "masks/4.png")
    write_text(tmp_path / "masks/classes.txt", "0 background\r\n1 cat\r\n7 a dog\r\n")
    found = read_class_masks(tmp_path / "masks", tmp_path / "images")
    assert found.classes == ("cat", "a dog")
    one, other, dog = objects(found)["a/1.jpg"]
    assert [(item.label, item.box) for item in (one, other, dog)] == [
        ("cat", (3, 2, 10, 7)), ("cat", (20, 15, 30, 20)), ("a dog", (0, 10, 30, 12)),
    ]  # fmt: skip
    assert np.array_equal(decode_shapes([((20, 30), dog.segmentation)]).numpy(), values == 7)
    assert counts(found) == {"masks with pixels of the ignored value 255, which are background here": 1}
    for part in ("has the value 3", "annotated as 5 x 5", "mode RGB"):
        assert any(part in fault for fault in found.faults), part
    for text, message in (
        ("cat\n", "expected a value and its class"),
        ("1 a\n1 b", "named before"),
        ("0 background", "no class"),
    ):
        write_text(tmp_path / "masks/classes.txt", text)
        with pytest.raises(ValueError, match=message):
            read_class_masks(tmp_path / "masks", tmp_path / "images")
