"""tools/prepare_data.py verify: files that are left alone, belong to nothing, or look doubtful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from guidance.data import DATASETS
from tests.support.data.layouts import LAYOUTS, edit, make_custom_folders, make_custom_masks, write_text
from tests.support.data.pictures import write_picture
from tests.support.data.preparing import cells, custom_config, run


def test_verify_counts_files_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_custom_folders(tmp_path / "set")
    train = ("cat/a.heic", "cat/b.AVIF", "dog/deeper/c.jpg", "dog/deeper/d.png", "e.jpg", "dog/deeper/.hidden")
    for name in (*(f"train/{name}" for name in train), "test/cat/f.heic", "test/cat/.hidden"):
        write_text(tmp_path / "set" / name, "")
    assert run("verify", "--quick", "--config", custom_config(tmp_path)) == 0
    out = capsys.readouterr().out
    assert cells(out, "files left alone") == ["5", "0", "1"]
    assert cells(out, "images") == ["16", "4", "8"]
    assert "nothing is wrong" in out


@pytest.mark.parametrize("name", ["hard_imagenet", "traveling_birds"])
def test_other_layouts_of_folders_count_files_left_alone(tmp_path: Path, name: str) -> None:
    LAYOUTS[name].make(tmp_path)
    (train,) = tmp_path.rglob("train") if name == "traveling_birds" else [tmp_path / "train"]
    write_text(sorted(train.iterdir())[0] / "a.heic", "")
    assert [DATASETS[name](tmp_path, split).left_alone for split in ("train", "val", "test")] == [1, 0, 0]


def test_verify_finds_masks_without_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_custom_masks(tmp_path / "set")
    for path in (tmp_path / "set/masks").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    assert run("verify", "--config", custom_config(tmp_path)) == 1
    out = capsys.readouterr().out
    assert cells(out, "faulty records") == ["2", "0", "2"]
    assert "expected " + str(tmp_path / "set/masks/test/dog/dog_test_0.png") in out


def test_verify_doubts_frames_and_damaged_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is used as it is, but may be wrong, is counted and told; it is no mistake."""
    LAYOUTS["voc"].make(tmp_path / "set")
    folder = tmp_path / "set/VOCdevkit/VOC2007"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "JPEGImages/1.jpg", "JPEG", exif=exif)
    edit(folder / "Annotations/1.xml", "<annotation>", "<annotation><size><width>20</width><height>30</height></size>")
    edit(
        folder / "Annotations/2.xml", "<annotation>", "<annotation><size><width>300</width><height>200</height></size>"
    )
    edit(folder / "Annotations/2.xml", "<xmax>12", "<xmax>34")
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (150, 1))).save(folder / "JPEGImages/3.jpg", quality=95)
    content = bytearray((folder / "JPEGImages/3.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = (
        np.random.default_rng(0).integers(0, 255, 40, np.uint8).tobytes()
    )
    (folder / "JPEGImages/3.jpg").write_bytes(content)
    for name in "456789":
        write_picture(folder / f"JPEGImages/{name}.jpg", seed=int(name))
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump({"data": {"name": "voc", "root": str(tmp_path / "set")}, "model": {"name": "resnet18"}})
    )
    assert run("verify", "--config", path) == 0
    out = capsys.readouterr().out
    names = (
        "boxes clipped at the border",
        "images turned by EXIF",
        "images of another size than annotated",
        "damaged bytes",
    )
    assert [cells(out, name) for name in names] == [
        ["1", "0", "0"], ["1", "0", "0"], ["2", "0", "0"], ["1", "0", "0"]
    ]  # fmt: skip
    assert "2.jpg sticks out of the image (width 30, height 20) by 4 pixels" in out
    assert "1.jpg has the EXIF orientation 6: viewers turn it, while stored pixels are used here" in out
    assert "1.jpg is 30 x 20 pixels, but 20 x 30 in its annotation (the two are swapped: it was probably made on" in out
    assert "2.jpg is 30 x 20 pixels, but 300 x 200 in its annotation\n" in out
    assert "3.jpg: Corrupt JPEG data" in out
    assert "nothing is wrong for sure" in out
    assert run("verify", "--config", path, "--set", "data.orientation=displayed", "--splits", "train") == 0
    out = capsys.readouterr().out
    assert "and so does data.orientation: displayed" in out
    assert cells(out, "images of another size than annotated") == ["1"]


@pytest.mark.parametrize("there", [False, True])
def test_verify_misses_a_class_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool) -> None:
    make_custom_folders(tmp_path / "set")
    for path in (tmp_path / "set/test/dog").iterdir():
        path.unlink()
    if not there:
        (tmp_path / "set/test/dog").rmdir()
    write_text(tmp_path / "set/boxes.csv", "image,class,x0,y0,x1,y1\n")
    assert run("verify", "--config", custom_config(tmp_path)) == 1
    out = capsys.readouterr().out
    assert cells(out, "missing class folders") == cells(out, "classes without an image") == ["0", "0", "1"]
    what = "no image in its folder" if there else "no folder"
    assert f"test: {tmp_path / 'set/test'} has {what} for the class 'dog'" in out
    assert run("verify", "--config", custom_config(tmp_path), "--splits", "train", "--splits", "test") == 1
    assert cells(capsys.readouterr().out, "missing class folders") == ["0", "1"]
