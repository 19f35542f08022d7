"""tools/prepare_data.py convert: there and back, what is told, and what comes out when it is read by `data.name: custom`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guidance.data.formats import FORMATS, AnnotatedImage, Annotations
from guidance.data.formats.converting import check_converted, convert, differences
from guidance.data.sets.custom import load_custom
from tests.support.data.layouts import write_text
from tests.support.data.pictures import write_picture
from tests.support.data.preparing import run

BOXES = {"cat": [(2.25, 3.5, 12.125, 11), (0, 0, 30, 20)], "big dog": [(29.25, 19.5, 30, 20)]}


def write_set(root: Path) -> Path:
    """A JSON with two splits, and an image of each kind: boxes, an outline, a class alone, never, and nothing."""
    images, entries = [], []
    for i, name in enumerate(("train/a b.jpg", "train/é.png", "val/c.jpg"), 1):
        write_picture(root / "images" / name, seed=i)
        images.append({"id": i, "file_name": name, "height": 20, "width": 30})
    for category, found in enumerate(BOXES.values(), 1):
        for x0, y0, x1, y1 in found:
            entries.append(
                {"id": len(entries), "image_id": 1, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            )
    entries[0]["segmentation"] = [[2.25, 3.5, 12.125, 3.5, 12.125, 11]]
    entries.append({"id": 10, "image_id": 3, "category_id": 1})
    entries.append({"id": 11, "image_id": 3, "category_id": 2, "bbox": [1, 1, 4, 4], "never": True, "keypoints": [1]})
    categories = [{"id": number, "name": name} for number, name in enumerate(BOXES, 1)]
    for split, numbers in (("train", (1, 2)), ("val", (3,))):
        content = {
            "images": [image for image in images if image["id"] in numbers],
            "annotations": [entry for entry in entries if entry["image_id"] in numbers], "categories": categories,
        }  # fmt: skip
        write_text(root / f"{split}.json", json.dumps(content))
    return root


def test_there_and_back(tmp_path: Path) -> None:
    """Boxes and outlines survive, classes by name; what a format cannot say is counted."""
    root = write_set(tmp_path / "set")
    images = root / "images"
    before = FORMATS["coco"].read(root, images)
    assert before.lost == {"keypoints": ("val/c.jpg",)}
    lost = {"boxes marked 'never'": ("val/c.jpg",), "classes of an image without a box": ("val/c.jpg",)}
    for name, outlines in (("yolo", True), ("voc", False)):
        there = convert(root, images, tmp_path / name, from_format="coco", to_format=name)
        missing = {} if outlines else {"segmentations": ("train/a b.jpg",)}
        assert there.lost == {"keypoints": ("val/c.jpg",), **lost, **missing}
        back = convert(tmp_path / name, images, tmp_path / f"{name}_back", from_format=name)
        assert not back.lost
        after = FORMATS["coco"].read(tmp_path / f"{name}_back", images)
        assert differences(before, after) == []
        assert {image.name: image.split for image in after.images} == {
            "train/a b.jpg": "train", "train/é.png": "train", "val/c.jpg": "val",
        }  # fmt: skip
        assert set(after.classes) == set(BOXES)
        shapes = [item.segmentation for image in after.images for item in image.objects if item.segmentation]
        assert shapes == ([[[2.25, 3.5, pytest.approx(12.125), 3.5, pytest.approx(12.125), 11]]] if outlines else [])
    again = convert(root, images, tmp_path / "coco", from_format="coco").annotations
    assert FORMATS["coco"].read(tmp_path / "coco", images) == type(again)(again.classes, again.images, {}, ())
    moved = type(before)(before.classes, before.images[1:], {}, ())
    assert len(differences(before, moved)) == 1


def test_what_comes_out_is_a_set_of_ones_own(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    convert(root, root / "images", tmp_path / "out", from_format="coco")
    train = load_custom(tmp_path / "out", "train", multi_label=True)
    (record,) = train.records  # the other image shows no class
    assert (record.boxes, record.box_classes) == ((*BOXES["cat"], *BOXES["big dog"]), (0, 0, 1))
    (held,) = load_custom(tmp_path / "out", "val", multi_label=True).records
    assert (held.classes, held.never_boxes, held.never_classes) == ((0,), ((1, 1, 5, 5),), (1,))
    assert [check.mistakes for check in check_converted(tmp_path / "out", multi_label=True)] == [0, 0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set")
    given = ["--images", root / "images", "--threads", 1]
    assert run("convert", "--from", "coco", root, *given, "--output", tmp_path / "yolo", "--to", "yolo") == 0
    out = capsys.readouterr().out
    assert "3 images, 5 objects: 3 cat, 2 big dog\n1 images without an object" in out
    assert "not kept: 1 boxes marked 'never' (first: val/c.jpg)" in out
    assert "read back: 0 images differ" in out
    with open(tmp_path / "yolo/labels/train/é.txt", "w") as file:
        file.write("5 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n")
    again = ["convert", "--from", "yolo", tmp_path / "yolo", *given]
    assert run(*again, "--output", tmp_path / "out") == 2
    assert "1 faults" in (error := capsys.readouterr().err)
    assert "line 1 of" in error
    assert not (tmp_path / "out").exists()
    assert run(*again, "--output", tmp_path / "out", "--on-error", "skip") == 0
    out = capsys.readouterr().out
    assert "not kept: 1 faulty images and objects, left out (first: line 1 of" in out
    assert f"data.root={tmp_path / 'out'} data.multi_label=true" in out
    assert "nothing is wrong" in out
    assert run(*again, "--output", tmp_path / "out", "--on-error", "skip") == 2
    assert "holds annotations already" in capsys.readouterr().err
    assert run("convert", "--from", "voc", tmp_path / "none", *given, "--output", tmp_path / "o") == 2
    assert "does not exist; it is what the tool exported" in capsys.readouterr().err


@pytest.mark.parametrize(("to", "tool"), [("voc", "VOC"), ("yolo", "YOLO")])
def test_images_that_differ_in_their_suffix_alone(tmp_path: Path, to: str, tool: str) -> None:
    """The second one would overwrite the file of the first."""
    for suffix in (".jpg", ".png"):
        write_picture(tmp_path / f"images/a{suffix}")
    alike = tuple(AnnotatedImage(f"a{suffix}", (20, 30)) for suffix in (".jpg", ".png"))
    write = FORMATS[to].write
    assert write is not None
    with pytest.raises(ValueError, match=f"two images are called a but for their suffix, and {tool} tells"):
        write(Annotations(("cat",), alike, {}, ()), tmp_path / "images", tmp_path / "out")
