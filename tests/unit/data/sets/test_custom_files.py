"""The CSV files of one's own images: boxes.csv and groups.csv."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guidance.data import Source
from guidance.data.sets.custom import load_custom
from tests.support.data.layouts import (
    HEIGHT,
    WIDTH,
    make_custom_folders,
    make_folders,
    write_instances,
    write_text,
)
from tests.support.data.pictures import write_picture


def names(source: Source) -> list[str]:
    return [record.path.name for record in source.records]


def test_boxes_of_a_csv(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    rows = [
        "never,class,image,x0,y0,x1,y1",  # any order
        "0,cat,test/cat/cat_test_1.jpg,1,2,3,4.5",
        ",cat,test/cat/cat_test_1.jpg,5,6,7,8",
        "1,cat,test/cat/cat_test_1.jpg,0,0,1,1",
        "True,dog,test/cat/cat_test_2.jpg,0,0,2,2",
        "0,dog,train/dog/dog_train_0.jpg,1,1,2,2",
    ]
    write_text(tmp_path / "boxes.csv", "\ufeff" + "\n".join(rows) + "\n")  # spreadsheets write a byte order mark
    records = load_custom(tmp_path, "test").records
    assert [len(record.boxes) for record in records] == [0, 2, 0, 0, 0, 0, 0, 0]
    assert records[1].boxes == ((1, 2, 3, 4.5), (5, 6, 7, 8))
    assert (records[1].box_classes, records[1].never_boxes, records[1].never_classes) == ((0, 0), ((0, 0, 1, 1),), (0,))
    assert (records[2].boxes, records[2].never_boxes, records[2].never_classes) == ((), ((0, 0, 2, 2),), (1,))
    write_text(tmp_path / "boxes.csv", "\n".join([*rows, "maybe,cat,test/cat/cat_test_1.jpg,1,2,3,4"]))
    with pytest.raises(ValueError, match=r"line 7 of .*boxes\.csv: never is 'maybe', expected 0 or 1"):
        load_custom(tmp_path, "test")
    (tmp_path / "boxes.csv").unlink()
    assert not any(record.boxes for record in load_custom(tmp_path, "test").records)


def test_faulty_lines_are_counted_in_their_split_alone(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    content = (tmp_path / "boxes.csv").read_text()
    write_text(tmp_path / "boxes.csv", content + "train/cat/x.jpg,cat,1,2,3,4\n")
    skipped = [load_custom(tmp_path, split, on_error="skip").skipped for split in ("train", "val", "test")]
    assert skipped == [1, 0, 0]


def test_groups_are_numbered_alike_in_every_split(tmp_path: Path) -> None:
    make_folders(tmp_path, ("cat", "dog"), {"train": 4, "val": 1, "test": 2})
    kinds = {"train": "sea", "val": "land", "test": "air"}
    rows = [f"{path.relative_to(tmp_path)},{kinds[path.parts[-3]]}" for path in sorted(tmp_path.rglob("*.jpg"))]
    write_text(tmp_path / "groups.csv", "\n".join(["image,group", *rows]))
    for split, group in (("train", 2), ("val", 1), ("test", 0)):
        source = load_custom(tmp_path, split)
        assert source.groups == ("air", "land", "sea")
        assert {record.group for record in source.records} == {group}
    (tmp_path / "groups.csv").unlink()
    source = load_custom(tmp_path, "train")
    assert (source.groups, {record.group for record in source.records}) == ((), {-1})


def test_groups_of_a_json_are_keyed_by_file_name(tmp_path: Path) -> None:
    write_instances(tmp_path / "train.json", {0: "a", 5: "b"}, tmp_path / "images", 5)
    write_picture(tmp_path / "images/sub/x.jpg", HEIGHT, WIDTH)
    content = json.loads((tmp_path / "train.json").read_text())
    content["images"][0]["file_name"] = "sub/x.jpg"
    (tmp_path / "train.json").write_text(json.dumps(content))
    write_text(
        tmp_path / "groups.csv", "image,group\nsub/x.jpg,2\n" + "".join(f"train_0{i}.jpg,1\n" for i in range(1, 5))
    )
    records = [record for split in ("train", "val") for record in load_custom(tmp_path, split).records]
    assert {record.path.name: record.group for record in records} == {
        "x.jpg": 1, "train_01.jpg": 0, "train_02.jpg": 0, "train_03.jpg": 0, "train_04.jpg": 0
    }  # fmt: skip


def test_boxes_are_found_under_any_spelling_of_a_path(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    rows = ["./test/cat/cat_test_1.jpg,cat,1,2,3,4", "test//dog/./dog_test_2.jpg,dog,1,2,3,4"]
    write_text(tmp_path / "boxes.csv", "\n".join(["image,class,x0,y0,x1,y1", *rows]))
    source = load_custom(tmp_path, "test")
    assert [record.path.name for record in source.records if record.boxes] == ["cat_test_1.jpg", "dog_test_2.jpg"]
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    write_text(tmp_path / "groups.csv", "image,group\n" + "".join(f"./{path},a\n" for path in paths))
    assert {record.group for record in load_custom(tmp_path, "test").records} == {0}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("", "train"), ("train/cat", "train"), ("train", "train"), ("{root}/train/cat/cat_train_0.jpg", "train"),
        ("test/cat", "test"), ("test/dog/notes.txt", "test"), ("test/dog/.hidden.jpg", "test"), ("test/x.jpg", "test"),
        ("test/cat/deep/x.jpg", "test"), ("test/../test/cat/cat_test_0.jpg", "test"), ("masks/cat/x.jpg", "train"),
        ("../x.jpg", "train"), ("boxes.csv", "train"), (".git/cat/x.jpg", "train"), ("tset/cat/x.jpg", "train"),
        ("/{root}/x.jpg", "train"),
    ],
)  # fmt: skip
def test_boxes_of_no_image_are_named_or_counted(tmp_path: Path, name: str, split: str) -> None:
    root = tmp_path / "set"
    make_custom_folders(root)
    for path in ("test/dog/notes.txt", "test/dog/.hidden.jpg", "test/x.jpg", "test/cat/deep/x.jpg", "masks/cat/x.jpg",
                 "../x.jpg", ".git/cat/x.jpg", "x.jpg"):  # fmt: skip
        write_text(root / path, "")
    name = name.format(root=root)
    with (root / "boxes.csv").open("a") as file:
        file.write(f"{name},cat,1,2,3,4\n")
    message = f"line 6 of {root / 'boxes.csv'}: image '{name}' .*; expected a path from {root}, as train/cat/1.jpg"
    for each in ("train", "val", "test"):
        with pytest.raises(ValueError, match=message):
            load_custom(root, each, layout="folders")
        source = load_custom(root, each, layout="folders", on_error="skip")
        assert source.skipped == len(source.problems) == int(each == split)


def test_a_table_of_bare_file_names_is_one_error_with_the_rule(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    names = sorted(path.name for path in tmp_path.rglob("*.jpg"))
    write_text(tmp_path / "boxes.csv", "image,class,x0,y0,x1,y1\n" + "".join(f"{name},cat,1,2,3,4\n" for name in names))
    rule = (
        rf"28 of 28 lines of .*boxes\.csv name their image by its file alone, such as '{names[0]}' in line 2; expected"
    )
    for split in ("train", "val", "test"):
        with pytest.raises(ValueError, match=f"{rule} a path from {tmp_path}, as train/cat/{names[0]}"):
            load_custom(tmp_path, split)
    assert [load_custom(tmp_path, s, on_error="skip").skipped for s in ("train", "val", "test")] == [1, 0, 0]
    write_text(
        tmp_path / "boxes.csv", "image,class,x0,y0,x1,y1\n" + "".join(f"./{name},cat,1,2,3,4\n" for name in names)
    )
    with pytest.raises(
        ValueError, match=r"28 of 28 lines of .*boxes\.csv name their image by its file alone, such as '\./"
    ):
        load_custom(tmp_path, "train")
    (tmp_path / "boxes.csv").unlink()
    write_text(tmp_path / "groups.csv", "image,group\n" + "".join(f"{name},a\n" for name in names))
    rule = rf"groups\.csv has a line for none of the 20 images: it calls them like '{names[0]}', expected like 'train/cat/cat_"
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=rule):
            load_custom(tmp_path, "train", on_error=on_error)


def test_class_names_are_suggested(tmp_path: Path) -> None:
    make_custom_folders(tmp_path)
    write_text(tmp_path / "boxes.csv", "image,class,x0,y0,x1,y1\ntrain/dog/dog_train_1.jpg,dgo,1,2,3,4\n")
    with pytest.raises(ValueError, match=r"line 2 of .*: unknown class 'dgo'; known: cat, dog\. Did you mean 'dog'\?"):
        load_custom(tmp_path, "train")


@pytest.mark.parametrize("name", ["boxes.csv", "groups.csv"])
def test_an_optional_file_that_cannot_be_read_is_not_ignored(tmp_path: Path, name: str) -> None:
    make_custom_folders(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=rf"{name} is not a file that can be read; replace or remove it"):
        load_custom(tmp_path, "train")
