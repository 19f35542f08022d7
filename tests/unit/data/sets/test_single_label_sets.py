"""CUB, TravelingBirds and the subsets of ImageNet: what the tests of all layouts do not cover; the held-out split."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidance.data import DATASETS, Record, UnreadableError
from guidance.data.reading.decode import read_object_segments
from guidance.data.sets.cub import load_cub
from guidance.data.sets.cub_files import bird_names
from guidance.data.sets.imagenet import load_hard_imagenet, load_imagenet100
from guidance.data.sets.traveling_birds import load_traveling_birds
from guidance.data.splits import train_or_val
from tests.support.data.layouts import BOX, LAYOUTS, OBJECT, SPECIES, edit, write_text


def held_out(counts: list[int], fraction: float) -> dict[int, int]:
    """How many images of each class are held out."""
    classes = [label for label, count in enumerate(counts) for _ in range(count)]
    names = [f"{label}/{i}" for i, label in enumerate(classes)]
    chosen = train_or_val(classes, "val", names=names, fraction=fraction, seed=0, classes=classes)
    return dict(Counter(chosen))


def test_each_class_gives_its_share() -> None:
    assert held_out([30, 29, 5, 2, 1], 0.2) == {0: 6, 1: 6, 2: 1, 3: 1}
    assert held_out([10, 3], 0.01) == {0: 1, 1: 1}
    assert held_out([10, 3], 0.99) == {0: 9, 1: 2}


def test_without_classes_the_share_is_rounded_up() -> None:
    names = [str(i) for i in range(100)]
    for fraction, count in ((0.07, 7), (0.071, 8), (0.001, 1), (0.29, 29)):
        assert len(train_or_val(names, "val", names=names, fraction=fraction, seed=0)) == count
    assert train_or_val(names, "train", names=names, fraction=0.0, seed=0) == names
    assert train_or_val([], "val", names=[], fraction=0.5, seed=0) == []


def test_bird_names_lose_their_number() -> None:
    assert bird_names(SPECIES) == ("Black_footed_Albatross", "Laysan_Albatross")
    assert bird_names(["001.Gull", "002.Gull", "003.Tern"]) == ("001.Gull", "002.Gull", "Tern")
    assert bird_names(["Gull"]) == ("Gull",)
    with pytest.raises(ValueError, match=r"class 001\.Gull is listed twice"):
        bird_names(["001.Gull", "001.Gull"])


@pytest.mark.parametrize("inside", [False, True])
def test_cub_records(tmp_path: Path, inside: bool) -> None:
    LAYOUTS["cub"].make(tmp_path)
    cub = tmp_path / "CUB_200_2011"
    if not inside:
        shutil.move(cub / "segmentations", tmp_path / "segmentations")
    for root in (tmp_path, cub):
        source = load_cub(root, "test")
        assert source.classes == ("Black_footed_Albatross", "Laysan_Albatross")
        assert [record.classes for record in source.records] == [(0,)] * 4 + [(1,)] * 4
        first = source.records[0]
        assert first.path == cub / "images" / SPECIES[0] / "Bird_0010.jpg"
        assert (first.boxes, first.box_classes) == ((BOX,), (0,))
        folder = cub / "segmentations" if inside else tmp_path / "segmentations"
        assert first.segmentation == folder / SPECIES[0] / "Bird_0010.png"
    shutil.rmtree(folder)
    source = load_cub(tmp_path, "test")
    assert (source.read_segments, source.records[0].segmentation) == (None, None)


def test_cub_counts_a_fault_once(tmp_path: Path) -> None:
    LAYOUTS["cub"].make(tmp_path)
    edit(tmp_path / "CUB_200_2011/bounding_boxes.txt", "\n2 2.0", "\n2 x")
    found = [load_cub(tmp_path, split, on_error="skip") for split in ("train", "val", "test")]
    assert [source.skipped for source in found] == [1, 0, 0]
    assert sum(len(source.records) for source in found[:2]) == 19


def test_traveling_birds_are_cubs_birds(tmp_path: Path) -> None:
    LAYOUTS["traveling_birds"].make(tmp_path)
    box = "\n11 2.0 3.0 10.0 8.0"
    edit(tmp_path / "CUB_200_2011/bounding_boxes.txt", box, "\n11 1.0 3.0 10.0 8.0")
    for root in (tmp_path, tmp_path / "CUB_fixed"):  # CUB's files in it, or beside it
        for split in ("test", "test_black"):
            first = load_traveling_birds(root, split).records[0]
            assert first.path == tmp_path / "CUB_fixed" / split / SPECIES[0] / "Bird_0010.jpg"
            assert (first.boxes, first.classes) == (((1, 3, 11, 11),), (0,))
            assert first.segmentation == tmp_path / "segmentations" / SPECIES[0] / "Bird_0010.png"
    shutil.copytree(tmp_path / "CUB_fixed/test", tmp_path / "CUB_fixed/val")
    assert [len(load_traveling_birds(tmp_path, split).records) for split in ("train", "val")] == [20, 8]


def test_imagenet_classes_come_from_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS["imagenet100"].make(tmp_path)
    source = load_imagenet100(tmp_path, "test")
    assert source.classes == ("Rhodesian ridgeback", "n02086240")  # in the order of the list; the name is optional
    assert [record.path.parent.name for record in source.records] == ["n02087394"] * 2 + ["n02086240"] * 2
    assert [record.classes for record in source.records] == [(0,), (0,), (1,), (1,)]
    other = write_text(tmp_path / "lists/one.txt", "n02088364\n")
    for name in (str(other), "lists/one.txt"):
        assert len(load_imagenet100(tmp_path, "test", class_list=name).records) == 2
    monkeypatch.chdir(write_text(tmp_path / "elsewhere/here.txt", "n02088364\n").parent)
    assert len(load_imagenet100(tmp_path, "test", class_list="here.txt").records) == 2  # from the working directory
    write_text(tmp_path / "here.txt", "n02088364\nn02086240\n")
    assert len(load_imagenet100(tmp_path, "test", class_list="here.txt").records) == 4  # the file in `root` comes first
    with pytest.raises(ValueError, match=r"(?s)two\.txt does not exist.*data\.class_list"):
        load_imagenet100(tmp_path, "test", class_list="two.txt")


def test_imagenet_boxes(tmp_path: Path) -> None:
    """Of the validation images in one folder, as downloaded, or in folders of classes; taken as they are."""
    LAYOUTS["imagenet100"].make(tmp_path)
    boxes = {record.path.name: record.boxes for split in ("train", "val", "test")
             for record in load_imagenet100(tmp_path, split).records}  # fmt: skip
    assert {name: box for name, box in boxes.items() if box} == {
        f"{wnid}_{part}_0.JPEG": (BOX,) for wnid in ("n02086240", "n02087394") for part in ("train", "val")
    }
    objects = "".join(OBJECT.format(name="n02087394", difficult=0, box=box) for box in (BOX, (0, 0, 5, 5)))
    write_text(tmp_path / "bboxes/val/n02087394/n02087394_val_1.xml", f"<annotation>{objects}</annotation>")
    record = load_imagenet100(tmp_path, "test").records[1]
    assert (record.boxes, record.box_classes) == ((BOX, (0, 0, 5, 5)), (0, 0))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("custom_masks", "masks"),
        ("hard_imagenet", "masks"),
        ("imagenet100", "bboxes"),
        ("traveling_birds", "segmentations"),
    ],
)
def test_folders_of_annotations_are_no_splits(tmp_path: Path, name: str, folder: str) -> None:
    LAYOUTS[name].make(tmp_path)
    if name == "traveling_birds":  # all that lies in CUB_fixed, without that folder
        shutil.copytree(tmp_path / "CUB_fixed", tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "CUB_fixed")
        assert len(DATASETS[name](tmp_path, "test").records) == 8
    with pytest.raises(ValueError, match=f"unknown split of .* '{folder}'"):
        DATASETS[LAYOUTS[name].name](tmp_path, folder)


def test_imagenet_with_a_test_folder(tmp_path: Path) -> None:
    LAYOUTS["imagenet100"].make(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    assert [len(load_imagenet100(tmp_path, split).records) for split in ("train", "val", "test")] == [20, 4, 20]


def test_masks_of_hard_imagenet_are_optional_for_an_image(tmp_path: Path) -> None:
    LAYOUTS["hard_imagenet"].make(tmp_path)
    source = load_hard_imagenet(tmp_path, "test")
    assert source.classes[:2] == ("howler monkey", "balance beam")
    shown = [record.segmentation is not None for record in source.records]
    assert shown == [True] * 6 + [False] * 24
    assert source.records[0].segmentation == tmp_path / "masks/val/n02492660/n02492660_val_0.png"
    assert source.records[0].boxes == (BOX,)


def test_masks_of_hard_imagenet_belong_to_images(tmp_path: Path) -> None:
    LAYOUTS["hard_imagenet"].make(tmp_path)
    mask = tmp_path / "masks/val/n02492660/n02492660_val_0.png"
    mask.rename(mask.with_suffix(".JPEG"))
    write_text(tmp_path / "masks/test/x.png", "")  # a split of another name
    with pytest.raises(ValueError, match=rf"{mask.stem}\.JPEG belongs to no image of .*/val; expected {mask}"):
        load_hard_imagenet(tmp_path, "test")
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=r"masks/test belongs to no split"):
            load_hard_imagenet(tmp_path, split)
    sources = [load_hard_imagenet(tmp_path, split, on_error="skip") for split in ("train", "val", "test")]
    assert [source.skipped for source in sources] == [len(source.problems) for source in sources] == [1, 0, 1]


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_any_mode(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray((values > 0).astype(np.uint16))
    elif mode == "P":
        image = Image.fromarray((values > 0).astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0] * 256)  # all colours are black: the index counts
    else:
        image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "mask.png")
    record = Record(Path("x.jpg"), (3,), segmentation=tmp_path / "mask.png")
    found = read_object_segments(record, threshold=1)
    assert list(found) == [3]
    assert found[3].dtype == torch.bool
    assert found[3].tolist() == [[False, True], [True, False]]
    assert read_object_segments(record._replace(segmentation=None), threshold=1) == {}


def test_masks_have_a_threshold_and_any_colour_counts(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127], [128, 255]], dtype=np.uint8)).save(tmp_path / "grey.png")
    record = Record(Path("x.jpg"), (0,), segmentation=tmp_path / "grey.png")
    assert read_object_segments(record, threshold=128)[0].tolist() == [[False, False], [True, True]]
    Image.fromarray(np.array([[[0, 0, 0], [0, 0, 1]]], dtype=np.uint8)).save(tmp_path / "blue.png")
    blue = record._replace(segmentation=tmp_path / "blue.png")
    assert read_object_segments(blue, threshold=1)[0].tolist() == [[False, True]]
    with pytest.raises(UnreadableError, match=r"segmentation .*none\.png does not exist"):
        read_object_segments(record._replace(segmentation=tmp_path / "none.png"), threshold=1)
