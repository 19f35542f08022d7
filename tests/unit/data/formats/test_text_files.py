"""PASCAL VOC XML of one's own and YOLO text files, as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from guidance.data.formats import AnnotatedImage, AnnotatedObject, Annotations
from guidance.data.formats.pictures import Pictures
from guidance.data.formats.voc_xml import read_voc_xml
from guidance.data.formats.yolo import read_yolo
from tests.support.data.layouts import write_text
from tests.support.data.pictures import write_picture

SIZE = "<size><width>{}</width><height>{}</height></size>"
XML = "<annotation><filename>{name}</filename>{size}{objects}</annotation>"
OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def xml(*objects: str, name: str = "", size: str = "") -> str:
    return XML.format(name=name, size=size, objects="".join(objects))


def only(found: Annotations, name: str) -> AnnotatedImage:
    (image,) = [image for image in found.images if image.name == name]
    return image


def boxes(image: AnnotatedImage) -> list[object]:
    return [(item.label, item.box) for item in image.objects]


def test_images_are_found_however_they_are_called(tmp_path: Path) -> None:
    names = ("a/1.jpg", "b/1.jpg", "b/deep/x y#é.PNG", "c/2.jpg", "c/2.png", ".hidden/3.jpg")
    for name in names:
        write_text(tmp_path / name, "")
    pictures = Pictures(tmp_path)
    for called in ("b/1.jpg", r"C:\data\b\1.jpg", "/home/me/b/1.jpg", "./../b/1", "b//1.jpg "):
        assert pictures.find(called) == "b/1.jpg", called
    assert pictures.find("x y#é") == pictures.find("elsewhere/deep/x y#é.PNG") == "b/deep/x y#é.PNG"
    assert pictures.find("c/2.png") == "c/2.png"
    for called, message in (("1.jpg", "may be a/1.jpg or b/1.jpg"), ("c/2", "may be"), ("3.jpg", "is not in")):
        with pytest.raises(ValueError, match=message):
            pictures.find(called)


def test_voc_xml(tmp_path: Path) -> None:
    """Boxes count from 1; sizes may be missing; what is not kept is counted; every fault is named."""
    for name in ("1", "2", "3", "4", "5", "6"):
        write_picture(tmp_path / f"images/{name}.jpg")  # 20 x 30
    folder = tmp_path / "xml"
    write_text(
        folder / "1.xml",
        "\ufeff" + xml(
            OBJECT.format("cat", "<difficult>1</difficult><truncated>0</truncated>", 3, 4, 12, 11),
            OBJECT.format("dog", "<pose>Left</pose><pose/>", 0, 0, 30.5, 20),
            name="1.jpg", size=SIZE.format(30, 20),
        ).replace("><", ">\r\n<"),
    )  # fmt: skip
    write_text(folder / "2.xml", xml(name="other.jpg"))  # no size, no object, its image by the name of the file
    write_text(folder / "3.xml", xml(OBJECT.format("cat", "", 1, 1, 5, 5), size=SIZE.format(300, 200)))
    write_text(folder / "4.xml", xml(OBJECT.format("cat", "", 9, 9, 2, 2), OBJECT.format("cat", "", "", 1, 2, 2)))
    write_text(folder / "5.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    write_text(folder / "gone.xml", xml(name=r"C:\me\gone.jpg"))
    found = read_voc_xml(folder, tmp_path / "images")
    assert found.classes == ("cat", "dog")
    assert boxes(only(found, "1.jpg")) == [("cat", (2, 3, 12, 11)), ("dog", (0, 0, 30, 20))]
    assert only(found, "2.jpg") == AnnotatedImage("2.jpg", (20, 30))
    assert {what: len(places) for what, places in found.lost.items()} == {
        "marks 'difficult'": 1, "entries 'pose' of objects": 1, "boxes that stuck out of their image, cut at its border": 1,
        "images of the folder that no annotation names, left out": 2,
    }  # fmt: skip
    for part in (
        "annotated as 300 x 200 pixels",
        "has no area",
        "four numbers",
        "declares a document type",
        "gone.jpg",
    ):
        assert any(part in fault for fault in found.faults), part
    assert len(found.faults) == 5


def test_splits_of_voc(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4"):
        write_picture(tmp_path / f"JPEGImages/{name}.png")
        write_text(tmp_path / f"Annotations/{name}.xml", xml(OBJECT.format("cat", "", 1, 1, 5, 5)))
    for split, ids in {"train": "1\r\n2\r\n", "val": "2 1\n3", "trainval": "1\n2\n3", "cat_train": "4 1"}.items():
        write_text(tmp_path / f"ImageSets/Main/{split}.txt", ids.replace(" 1\n", "\n"))
    found = read_voc_xml(tmp_path, tmp_path / "JPEGImages")
    assert {image.name: image.split for image in found.images} == {"1.png": "train", "2.png": "train", "3.png": "val"}
    assert found.lost == {
        "images that a second split lists too, kept in the first": ("2.png",),
        "images that are in no list of ImageSets/Main, left out": ("4.png",),
    }
    assert not found.faults


def test_objects_of_a_picture_that_exif_turns(tmp_path: Path) -> None:
    """The size of the annotation says in which frame its boxes are; without one, that of the displayed picture."""
    picture = Image.new("RGB", (30, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # shown as 20 x 30 (width, height)
    (tmp_path / "images").mkdir()
    for name in ("stored", "shown", "untold"):
        picture.save(tmp_path / f"images/{name}.jpg", exif=exif)
    for name, size in (("stored", SIZE.format(30, 20)), ("shown", SIZE.format(20, 30)), ("untold", "")):
        write_text(tmp_path / f"xml/{name}.xml", xml(OBJECT.format("cat", "", 2, 3, 6, 15), size=size))
    found = read_voc_xml(tmp_path / "xml", tmp_path / "images")
    assert [image.size for image in found.images] == [(20, 30)] * 3
    assert boxes(only(found, "stored.jpg")) == [("cat", (1, 2, 6, 15))]
    # (x, y) of the displayed picture is (y, 20 - x) of the stored one
    assert boxes(only(found, "shown.jpg")) == boxes(only(found, "untold.jpg")) == [("cat", (2, 14, 15, 19))]
    (places,) = found.lost.values()
    assert places == ("shown.jpg", "untold.jpg")


def test_yolo(tmp_path: Path) -> None:
    """The usual layout: folders of splits, Windows line ends, outlines, empty files, and every fault by its line."""
    for name in ("train/1", "train/2", "train/none", "val/1"):
        write_picture(tmp_path / f"images/{name}.jpg")
    labels = tmp_path / "labels"
    write_text(labels / "train/1.txt", "0 0.5 0.5 0.4 0.2\r\n1 0 0 0.5 0 0.5 0.5\r\n\r\n1 0.1 0.5 0.4 0.2 0.9\r\n")
    write_text(
        labels / "train/2.txt", "2 .5 .5 .1 .1\n-1 .5 .5 .1 .1\n0 .5 .5 .1\n0 nan .5 .1 .1\n0 15 10 4 4\n0 .5 .5 0 .1\n"
    )
    write_text(labels / "val/1.txt", "\ufeff")
    write_text(labels / "val/gone.txt", "0 0.5 0.5 0.4 0.2\n")
    write_text(
        tmp_path / "data.yaml", "path: ../elsewhere\ntrain: images/train\nval: images/val\nnames: {0: a cat, 1: dog}\n"
    )
    found = read_yolo(tmp_path, tmp_path / "images")
    assert found.classes == ("a cat", "dog")
    assert {image.name: image.split for image in found.images} == {
        "train/1.jpg": "train", "train/2.jpg": "train", "train/none.jpg": "train", "val/1.jpg": "val",
    }  # fmt: skip
    first, second, third = only(found, "train/1.jpg").objects
    assert first.box == pytest.approx((9, 8, 21, 12))
    assert second == AnnotatedObject("dog", (0, 0, 15, 10), [[0, 0, 15, 0, 15, 10]])
    assert third.box == pytest.approx((0, 8, 9, 12))
    assert {what.split(",")[0]: places for what, places in found.lost.items()} == {
        "confidences": ("train/1.jpg",), "boxes that stuck out of their image": ("train/1.jpg",),
        "images without a label file": ("train/none.jpg",),
    }  # fmt: skip
    lines = [fault.split(": ")[0].removeprefix("line ").split(" of ")[0] for fault in found.faults if "line " in fault]
    assert lines == ["1", "2", "3", "4", "5"]
    parts = ("gone.txt belongs to no image", "class 2 is not among the 2 classes (0 to 1)", "not pixels", "has no area")
    for part in parts:
        assert any(part in fault for fault in found.faults), part
    assert len(found.faults) == 7


def test_other_layouts_of_yolo(tmp_path: Path) -> None:
    """A folder for each split, as Roboflow writes it; lists of files, as Darknet does; keypoints."""
    for split in ("train", "valid"):
        write_picture(tmp_path / f"r/{split}/images/1.jpg")
        write_text(tmp_path / f"r/{split}/labels/1.txt", "0 0.5 0.5 0.4 0.2 0.1 0.2 2 0.3 0.4 2")
    write_text(
        tmp_path / "r/data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [cat]\nkpt_shape: [2, 3]\n"
    )
    found = read_yolo(tmp_path / "r/data.yaml", tmp_path / "r")
    assert {image.name: image.split for image in found.images} == {
        "train/images/1.jpg": "train", "valid/images/1.jpg": "val",
    }  # fmt: skip
    assert found.lost == {"keypoints": ("train/images/1.jpg", "valid/images/1.jpg")}
    part = read_yolo(tmp_path / "r/data.yaml", tmp_path / "r/train/images")  # without the images of the other split
    assert [image.split for image in part.images] == ["train"]
    assert any("holds none of the images" in fault for fault in part.faults)

    for name in "123":
        write_picture(tmp_path / f"d/obj_train_data/{name}.jpg")
        write_text(tmp_path / f"d/obj_train_data/{name}.txt", "0 0.5 0.5 0.4 0.2")
    write_text(tmp_path / "d/obj.names", "cat\r\n\r\n")
    write_text(tmp_path / "d/train.txt", "data\\obj_train_data\\1.jpg\r\ndata/obj_train_data/gone.jpg\r\n")
    write_text(tmp_path / "d/test.txt", "/x/obj_train_data/2.jpg\n")
    found = read_yolo(tmp_path / "d", tmp_path / "d/obj_train_data")
    assert {image.name: image.split for image in found.images} == {"1.jpg": "train", "2.jpg": "test"}
    assert [len(image.objects) for image in found.images] == [1, 1]
    assert len(found.faults) == 1
    assert "gone.jpg" in found.faults[0]

    (tmp_path / "d/obj.names").unlink()
    for names, message in (
        (None, "has no list of the classes"),
        ("names: {1: cat}", "numbered from 0"),
        ("names: [a, a]", "once"),
    ):
        if names:
            write_text(tmp_path / "d/data.yaml", names)
        with pytest.raises(ValueError, match=message):
            read_yolo(tmp_path / "d", tmp_path / "d/obj_train_data")
