"""tools/prepare_data.py verify: records and splits that are faulty or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.data.layouts import LAYOUTS, make_custom_coco, make_custom_folders, write_text
from tests.support.data.preparing import cells, custom_config, run, write_config
from tools import prepare_data


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    assert run("verify", "--config", config) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"demo at {tmp_path / 'demo'}\n")
    assert "nothing is wrong" in out
    assert out.splitlines()[2].split() == ["images", "40", "12", "12"]
    (tmp_path / "demo/images/train/00003.png").write_bytes(b"not a picture")
    picture = (tmp_path / "demo/images/train/00001.png").read_bytes()
    (tmp_path / "demo/images/test/00005.png").write_bytes(picture)
    for extra in ([], ["--threads", 2]):
        assert run("verify", "--config", config, *extra) == 1
        out = capsys.readouterr().out
        assert "00003.png cannot be read" in out
        assert "00005.png is in train" in out
        assert "2 mistakes" in out
    assert run("verify", "--config", config, "--quick", "--splits", "test") == 0
    assert run("verify", "--config", config, "--splits", "tset") == 2
    assert "Did you mean" in capsys.readouterr().err


def test_verify_goes_on_after_a_faulty_record(
    tmp_path: Path, voc_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = voc_root.glob("VOCdevkit/VOC*")
    copy = tmp_path / source.name
    (copy / "ImageSets/Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (copy / name).symlink_to(source / name)
    ids = sorted(p.stem for p in (source / "Annotations").glob("*.xml"))[:6]
    (copy / "ImageSets/Main/train.txt").write_text("\n".join([*ids[:4], "000000"]))
    (copy / "ImageSets/Main/val.txt").write_text("\n".join(ids[4:]))
    data = {"name": "voc", "root": str(tmp_path), "year": source.name.removeprefix("VOC")}
    config = tmp_path / "voc.yaml"
    config.write_text(yaml.safe_dump({"data": data}))
    assert run("verify", "--config", config, "--quick") == 1
    captured = capsys.readouterr()
    assert "train: " in captured.out
    assert "000000" in captured.out  # the id without files
    assert cells(captured.out, "faulty records") == ["1", "0"]
    assert "1 mistakes" in captured.out
    assert "test: not there (voc has no split 'test'" in captured.err


def break_json(root: Path) -> None:
    make_custom_coco(root)
    write_text(root / "test.json", '{"images": [')


def break_folder(root: Path) -> None:
    make_custom_folders(root)
    (root / "test/cat").rename(root / "test/Cat")
    (root / "boxes.csv").unlink()


@pytest.mark.parametrize(
    ("make", "message"),
    [(break_json, "test.json is not valid JSON"), (break_folder, "Cat is a class that the training")],
)
def test_a_broken_test_split_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, message: str
) -> None:
    make(tmp_path / "set")
    config = custom_config(tmp_path)
    assert run("verify", "--quick", "--config", config) == 1
    captured = capsys.readouterr()
    assert "not there" not in captured.err
    assert "nothing is wrong" not in captured.out
    assert message in captured.out
    assert cells(captured.out, "images") == ["16", "4"]
    assert "1 mistakes" in captured.out
    assert run("cache", "--config", config) == 2
    captured = capsys.readouterr()
    # What can be built is: pixels, and after them segmentations, where there are any.
    assert list(dict.fromkeys(line.split(":")[0] for line in captured.out.splitlines())) == ["train", "val"]
    assert message in captured.err


@pytest.mark.parametrize("name", ["coco", "custom_coco", "custom_folders", "imagewoof"])
def test_a_test_split_that_is_not_there_is_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    layout, root = LAYOUTS[name], tmp_path / "set"
    layout.make(root)
    gone = {"coco": "val2017", "custom_coco": "test.json", "custom_folders": "test", "imagewoof": "val"}[name]
    (root / gone).rename(tmp_path / "gone")
    if name == "custom_folders":
        (root / "boxes.csv").unlink()
    config = custom_config(tmp_path, layout.name, **layout.options)
    for command in (["verify", "--quick"], ["cache"]):
        assert run(*command, "--config", config) == 0
        assert "test: not there (" in capsys.readouterr().err


def test_a_coco_split_with_images_needs_its_annotation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAYOUTS["coco"].make(tmp_path / "set")
    (tmp_path / "set/annotations/instances_val2017.json").unlink()
    assert run("verify", "--quick", "--config", custom_config(tmp_path, "coco", year="2017")) == 1
    assert "instances_val2017.json does not exist" in capsys.readouterr().out


def test_verify_names_all_faulty_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_custom_folders(tmp_path / "set")
    rows = [f"train/{k}/{k}_train_{i}.jpg,{k},2,{'x' if i % 2 else 3},12,11" for k in ("cat", "dog") for i in range(4)]
    write_text(tmp_path / "set/boxes.csv", "\n".join(["image,class,x0,y0,x1,y1", *rows]))
    config = custom_config(tmp_path, val_fraction=0.01, split_seed=1)
    assert run("verify", "--quick", "--config", config, "--splits", "train", "val") == 1
    out = capsys.readouterr().out
    assert [f"line {i} of" in out for i in range(2, 10)] == [False, True] * 4
    assert "4 mistakes" in out
    assert "data.on_error" not in out
    more = [f"train/cat/none_{i}.jpg,cat,1,2,3,4" for i in range(prepare_data.SHOWN)]
    write_text(tmp_path / "set/boxes.csv", "\n".join(["image,class,x0,y0,x1,y1", *rows, *more]))
    assert run("verify", "--quick", "--config", config, "--splits", "train", "val") == 1
    out = capsys.readouterr().out
    assert out.count(": line ") == prepare_data.SHOWN
    assert "\nand 4 more\n" in out


def test_verify_says_what_is_wrong_where_every_record_is_faulty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_custom_folders(tmp_path / "set")
    write_text(tmp_path / "set/boxes.csv", "image,class,x0,y0,x1,y1\n" + "".join(
        f"{path.relative_to(tmp_path / 'set').as_posix()},cow,1,2,3,4\n" for path in (tmp_path / "set").rglob("*.jpg")
    ))  # fmt: skip
    assert run("verify", "--config", custom_config(tmp_path)) == 2
    assert "unknown class 'cow'" in capsys.readouterr().err
