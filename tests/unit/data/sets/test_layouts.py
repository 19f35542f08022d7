"""What every data set must do, on tiny stand-ins of their layouts: splits, missing files, and each kind of fault."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly.sets import build_source
from guidance.config import parse_config
from guidance.config.data import Data
from guidance.config.reading import sections_of
from guidance.data import DATASETS, GuidanceDataset, Source, UnreadableError, eval_transform
from guidance.data.reading.preflight import preflight
from guidance.data.sets.coco import CLASSES
from guidance.data.sets.imagenet import HARD, WOOF
from guidance.data.source import NoSplitError
from tests.support.layouts import BOX, HEIGHT, LAYOUTS, OBJECT, WIDTH, edit, write_text
from tests.support.pictures import write_broken, write_picture

Fault = Callable[[Path], object]
SHARED = [name for name, layout in LAYOUTS.items() if name not in ("voc", "waterbirds")]  # val is held out from train
SPLITS = [(name, split) for name, layout in LAYOUTS.items() for split in layout.counts]


def load(root: Path, name: str, split: str, **options: Any) -> Source:
    return DATASETS[LAYOUTS[name].name](root, split, **LAYOUTS[name].options, **options)


def made(root: Path, name: str) -> Path:
    LAYOUTS[name].make(root)
    return root


def sample_of(source: Source, index: int = 0, **options: Any) -> Any:
    return GuidanceDataset(source, eval_transform(WIDTH), training=False, **options)[0, index]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_section_with_its_settings(name: str) -> None:
    section = {str(s.model_fields["name"].annotation): s for s in sections_of(Data)}[f"typing.Literal['{name}']"]
    for parameter in inspect.signature(DATASETS[name]).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            field = section.model_fields[parameter.name]
            if parameter.name != "on_error":
                assert field.default == parameter.default, f"{name}.{parameter.name}"


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_splits_have_their_images(tmp_path: Path, name: str, split: str) -> None:
    layout = LAYOUTS[name]
    config = parse_config(
        {"data": {"name": layout.name, "root": str(made(tmp_path, name)), **layout.options, "num_workers": 0}}
    )
    source = build_source(config, split)
    assert len(source.records) == layout.counts[split]
    assert (source.name, source.split, source.skipped) == (layout.name, split, 0)
    assert source.single_label == config.data.single_label
    if layout.name not in ("imagenet100", "imagewoof"):
        assert any(record.boxes or record.segmentation for record in source.records)
    for index, record in enumerate(source.records):
        assert record.path.is_file()
        segments = source.read_segments is not None
        sample = sample_of(source, index, load_segments=segments, region="best" if segments else "box")
        assert sample.targets.nonzero().flatten().tolist() == list(record.classes)
        assert len(sample.masks) == len(sample.classes) == int(bool(record.boxes or record.segmentation))
        assert source.single_label is False or len(record.classes) == 1


@pytest.mark.parametrize("name", [name for name in SHARED if LAYOUTS[name].counts["train"] < 60])
def test_held_out_images_depend_on_the_seed_alone(tmp_path: Path, name: str) -> None:
    made(tmp_path, name)

    def paths(split: str, **options: Any) -> set[Path]:
        found = [record.path for record in load(tmp_path, name, split, **options).records]
        assert len(set(found)) == len(found)
        return set(found)

    train, val, counts = paths("train"), paths("val"), LAYOUTS[name].counts
    whole = counts["train"] + counts["val"]
    assert not train & val
    assert len(train | val) == whole
    assert paths("val") == val
    assert any(paths("val", split_seed=seed) != val for seed in (1, 2, 3))
    assert paths("train", split_seed=1) | paths("val", split_seed=1) == train | val
    assert len(paths("val", val_fraction=0.4)) == 0.4 * whole
    assert val < paths("val", val_fraction=0.4)
    assert not paths("test") & (train | val)
    assert len(paths("train", val_fraction=0.0)) == whole
    with pytest.raises(ValueError, match=r"val_fraction 0\.0 of \d+ training images leaves none for the split 'val'"):
        load(tmp_path, name, "val", val_fraction=0.0)
    with pytest.raises(ValueError, match="val_fraction must be at least 0 and below 1; got 1"):
        load(tmp_path, name, "train", val_fraction=1)


@pytest.mark.parametrize("name", DATASETS)
def test_wrong_names_are_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"'raise' or 'skip'|does not exist"):
        DATASETS[name](tmp_path, "train", on_error="ignore")
    with pytest.raises(ValueError, match=r"does not exist|Did you mean 'train'"):
        DATASETS[name](tmp_path, "trains")


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_names_are_errors_where_everything_is_there(tmp_path: Path, name: str) -> None:
    made(tmp_path, name)
    with pytest.raises(ValueError, match="'raise' or 'skip'; got 'ignore'"):
        load(tmp_path, name, "train", on_error="ignore")
    with pytest.raises(NoSplitError, match=r"Did you mean 'train'|no split 'trains'.*train"):
        load(tmp_path, name, "trains")


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, layout in LAYOUTS.items() for path in layout.required]
)
def test_missing_files_show_the_layout(tmp_path: Path, name: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)does not exist\. Expected layout:\n.*ROOT"):
        load(tmp_path, name, "test")
    remove(made(tmp_path, name) / path)
    with pytest.raises(ValueError, match=r"(?s)does not exist.*ROOT|has no split 'test'"):
        load(tmp_path, name, "test")


@pytest.mark.parametrize("name", LAYOUTS)
def test_empty_splits_are_errors(tmp_path: Path, name: str) -> None:
    """Here because every image is missing or gone; the build names the split."""
    made(tmp_path, name)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.JPEG"), *tmp_path.glob("boxes.csv")]:
        path.unlink()
    layout = LAYOUTS[name]
    data = {"name": layout.name, "root": str(tmp_path), **layout.options, "on_error": "skip"}
    with pytest.raises(ValueError, match=r"the test split of \w+ at .* has no usable image"):
        build_source(parse_config({"data": data}), "test")


# --- faults of one image of the test split ----------------------------------------------------------------------------

CUB = "CUB_200_2011/"
VOC = "VOCdevkit/VOC2007/"
COCO_JSON, CUSTOM_JSON = "annotations/instances_val2017.json", "test.json"
XML = "bboxes/val/n02086240_val_0.xml"
CAT = "test/cat/cat_test_0.jpg,cat,2,3,12,11"


def text(path: str, old: str, new: str) -> Fault:
    return lambda root: edit(root / path, old, new)


def delete(path: str) -> Fault:
    return lambda root: (root / path).unlink()


def annotation(path: str, **change: Any) -> Fault:
    """Change the first annotation of a JSON; None removes a key."""

    def fault(root: Path) -> None:
        content = json.loads((root / path).read_text())
        content["annotations"][0].update(change)
        for key in [key for key, value in change.items() if value is None]:
            del content["annotations"][0][key]
        (root / path).write_text(json.dumps(content))

    return fault


def sizeless(path: str) -> Fault:
    return lambda root: edit(root / path, '"height": 20, "width": 30', '"height": 20')


def jsons(name: str, path: str, first: str) -> list[tuple[str, Fault, str]]:
    """Faults of COCO's format; `first`: the first image."""
    return [
        (name, annotation(path, category_id=12), "annotation 100 of image .* category_id 12, which is not among"),
        (name, annotation(path, category_id="1"), "category_id '1', which is not among"),
        (name, annotation(path, bbox=[1, 2, 3]), r"annotation 100 .*bbox .*\[1, 2, 3\], expected four finite numbers"),
        (name, annotation(path, bbox=[1, 2, "x", 4]), "bbox .*expected four finite numbers"),
        (name, annotation(path, bbox=7), "bbox .*expected four finite numbers"),
        (name, annotation(path, bbox=[1, 2, float("nan"), 4]), "bbox .*four finite numbers"),
        (name, annotation(path, segmentation=5), "segmentation that is neither"),
        (name, annotation(path, id=101), "annotation 101 is listed twice"),
        (name, delete(first), r"_00\.jpg does not exist; add it or remove it"),
    ]


FAULTS: list[tuple[str, Fault, str]] = [
    ("voc", delete(VOC + "JPEGImages/7.jpg"), r"7\.jpg does not exist"),
    ("voc", text(VOC + "Annotations/7.xml", "<xmin>3", "<xmin>nan"), r"7\.xml has no <bndbox>"),
    *jsons("coco", COCO_JSON, "val2017/instances_val2017_00.jpg"),
    ("coco", annotation(COCO_JSON, bbox=None), "annotation 100 .* has no bbox"),
    *jsons("custom_coco", CUSTOM_JSON, "images/test_00.jpg"),
    ("custom_coco", annotation(CUSTOM_JSON, never="yes"), "annotation 100 .*'never' 'yes', expected true or false"),
    ("cub", text(CUB + "image_class_labels.txt", "\n11 1", "\n11 3"), "line 11 of .* has class_id '3', not 1 to 2"),
    ("cub", text(CUB + "image_class_labels.txt", "\n11 1", "\n11 bird"), "class_id 'bird', not 1 to 2"),
    ("cub", text(CUB + "train_test_split.txt", "\n11 0", "\n11 2"), "is_training_image '2', not 0 to 1"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 inf"), "line 11 of .*four finite numbers"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 x"), "line 11 of .*expected four finite numbers"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 2.0 ", "\n11 "), "line 11 .* expected 'img_id x y width height'"),
    ("cub", text(CUB + "bounding_boxes.txt", "\n11 ", "\n99 "), "img_id 11 has no line in CUB_200_2011/bounding_boxes"),
    ("cub", delete(f"{CUB}images/001.Black_footed_Albatross/Bird_0010.jpg"), r"Bird_0010\.jpg does not exist"),
    ("cub", text(CUB + "images.txt", "tross/Bird_0011.jpg\n13", "tross/Bird_0010.jpg\n13"), "0010.jpg is listed twice"),
    ("traveling_birds", text(CUB + "bounding_boxes.txt", "\n11 2.0", "\n11 x"), "line 11 of .*expected four finite numbers"),
    ("traveling_birds", text(CUB + "images.txt", "Albatross/Bird_0010.jpg\n12", "A/b.jpg\n12"), "is no image of CUB"),
    *[(name, fault, message) for name in ("imagenet100", "imagewoof") for fault, message in (
        (lambda root: write_text(root / XML, "<annotation>"), "is not well-formed XML"),
        (lambda root: write_text(root / XML, "<annotation/>"), "has no objects"),
        (text(XML, "n02086240", "n02087394"), "class 'n02087394' .* is not one of the image's own: n02086240"),
        (text(XML, "<xmin>2", "<xmin>left"), "has no <bndbox> with numbers"),
    )],
    ("hard_imagenet", lambda root: write_text(root / "bboxes/val/n02492660/n02492660_val_0.xml", ""), "well-formed XML"),
    *[(name, lambda root: write_text(root / "groups.csv", "image,group\n" + "".join(
        f"{p.relative_to(root / ('images' if (root / 'images').is_dir() else '.')).as_posix()},a\n"
        for p in sorted(root.rglob("*test*.jpg"))[1:])), "has no line in .*groups.csv")
      for name in ("custom_coco", "custom_folders", "custom_masks")],
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("2,3", "2,x")), "line 4 of .*expected four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace("2,3", "2,-inf")), "line 4 of .*four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",11", "")), "line 4 of .*expected four finite numbers"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",cat", ",cow")), "unknown class 'cow'; known: cat, dog"),
    ("custom_folders", text("boxes.csv", CAT, CAT.replace(",cat", ",dog")), "class 'dog' is not the image's, .*'cat'"),
    ("custom_folders", text("boxes.csv", CAT, f"{CAT}\n{CAT}"), "line 5 of .*is listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), FAULTS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FAULTS)])
def test_faulty_images_are_named_or_counted(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(tmp_path, name, "test")
    source = load(tmp_path, name, "test", on_error="skip")
    assert (len(source.records), source.skipped) == (LAYOUTS[name].counts["test"] - 1, 1)
    (problem,) = source.problems
    assert re.search(f"(?s){message}", problem)


# --- entries that belong to no image, and files that cannot be used at all --------------------------------------------


def entry(path: str, section: str, **values: Any) -> Fault:
    def fault(root: Path) -> None:
        content = json.loads((root / path).read_text())
        content[section].append(values)
        (root / path).write_text(json.dumps(content))

    return fault


STRAYS = [
    *[(name, entry(path, *section, **values), message) for name, path in (("coco", COCO_JSON), ("custom_coco", CUSTOM_JSON))
      for section, values, message in (
        (("annotations",), {"id": 1, "image_id": 99}, "annotation 1 has no image_id that is among the images"),
        (("annotations",), {"id": 1, "image_id": [0]}, "annotation 1 has no image_id that is among the images"),
        (("images",), {"id": 0, "file_name": "new.jpg"}, "image id 0 is listed twice"),
        (("images",), {"id": [0], "file_name": "new.jpg"}, "has no id or file_name"),
        (("images",), {"id": 55}, "has no id or file_name"),
    )],
    ("coco", entry(COCO_JSON, "images", id=55, file_name="instances_val2017_00.jpg"), "_00.jpg is listed twice"),
    ("traveling_birds", lambda root: write_picture(root / "CUB_fixed/test/002.Laysan_Albatross/x.jpg"), "is no image of CUB"),
    ("custom_folders", text("boxes.csv", CAT, f"{CAT}\ntest/cat/x.jpg,cat,1,2,3,4"), r"line 5 .*'test/cat/x.jpg' does not"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), STRAYS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(STRAYS)])
def test_entries_without_an_image_are_named_or_counted(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    with pytest.raises(ValueError, match=message):
        load(tmp_path, name, "test")
    source = load(tmp_path, name, "test", on_error="skip")
    assert (len(source.records), source.skipped) == (LAYOUTS[name].counts["test"], 1)
    (problem,) = source.problems
    assert re.search(message, problem)


BROKEN = [
    *[(name, fault, message) for name, path in (("coco", COCO_JSON), ("custom_coco", CUSTOM_JSON)) for fault, message in (
        (lambda root, path=path: write_text(root / path, '{"images": ['), "is not valid JSON"),
        (lambda root, path=path: (root / path).write_bytes(b"\xff\xfe"), "is not valid JSON"),
        (text(path, '"annotations"', '"annotation"'), "must hold the lists 'images', 'annotations' and 'categories'"),
        (lambda root, path=path: write_text(root / path, "[]"), "must hold the lists"),
        (entry(path, "categories", id=5), "category {'id': 5} has no id .* and name"),
    )],
    ("coco", text(COCO_JSON, '"toothbrush"', '"brush"'), "category 90 is 'brush', but COCO's is 'toothbrush'"),
    ("coco", entry(COCO_JSON, "categories", id=12, name="hat"), "category 12 is 'hat', but COCO's is None"),
    ("coco", entry(COCO_JSON, "categories", id=1, name="man"), "category id 1 is listed twice"),
    ("custom_coco", entry(CUSTOM_JSON, "categories", id=9, name="cow"), "test.json and .*train.json list different"),
    ("custom_coco", entry("train.json", "categories", id=9, name="cat"), "category cat is listed twice"),
    ("custom_coco", lambda root: write_picture(root / "train/cat/x.jpg"), "set data.layout to coco, folders or masks"),
    ("cub", text(CUB + "images.txt", "\n11 ", "\nx "), "line 11 of .*images.txt is 'x .* expected 'img_id image'"),
    ("cub", text(CUB + "images.txt", "\n11 ", "\n12 "), r"img_id 12 is listed twice in .*\(lines 11 and 12\)"),
    ("cub", text(CUB + "classes.txt", "2 002", "3 002"), "class_id 2 has no line in CUB_200_2011/classes.txt"),
    ("traveling_birds", lambda root: (root / "CUB_fixed/test/cow").mkdir(), "cow is a class that the training split does not"),
    ("custom_folders", lambda root: (root / "test/cow").mkdir(), "cow is a class that the training split does not have"),
    ("custom_folders", text("boxes.csv", "x0,y0", "x,y"), "has no column x0, y0; expected the columns image, class"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image\n"), "has no column group"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image,group\na,\n"), "line 2 .* names no group"),
    ("custom_folders", lambda root: write_text(root / "groups.csv", "image,group\na,b\na,c\n"), "image a is listed twice"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "cat\n"), "line 1 .* expected a WordNet id"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "#\n"), "names no class"),
    ("imagenet100", lambda root: write_text(root / "imagenet100.txt", "n02086240\n" * 2), "n02086240 is listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "message"), BROKEN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(BROKEN)])
def test_unusable_files_are_errors_always(tmp_path: Path, name: str, fault: Fault, message: str) -> None:
    fault(made(tmp_path, name))
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=message) as raised:
            load(tmp_path, name, "test", on_error=on_error)
        assert raised.type is ValueError  # not NoSplitError: the split is there


# --- faults that show when the image is read --------------------------------------------------------------------------

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


def test_class_names() -> None:
    assert (len(CLASSES), len(WOOF), len(HARD)) == (80, 10, 15)
    assert not set(WOOF) & set(HARD)
