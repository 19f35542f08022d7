"""tools/prepare_data.py: what verify finds, what synthesize draws, caches ahead of time, and nested subsets."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from guidance.config import load_config
from guidance.data import DATASETS, Record, load_waterbirds
from guidance.data.making.scenes import compose, read_backgrounds
from guidance.data.making.synthesis import is_waterbird, synthesize_traveling_birds, synthesize_waterbirds
from guidance.data.reading.checks import check_image, check_split, compare_splits, table
from guidance.data.sets.traveling_birds import load_traveling_birds
from tests.conftest import sample
from tests.support.layouts import LAYOUTS, edit, make_custom_coco, make_custom_folders, make_custom_masks, write_text
from tests.support.pictures import make_source, read_halves, write_broken, write_picture
from tools import prepare_data

SPECIES = ("001.Sooty_Albatross", "021.Eastern_Towhee", "059.Western_Gull", "130.Tree_Sparrow")
RED, HEIGHT, WIDTH = (200, 10, 10), 24, 32
BOX = (8, 6, 20, 18)  # where the bird is


def write_cub(folder: Path, images: int = 10) -> Path:
    """A CUB of `images` red squares for each of `SPECIES`, every other one a training image."""
    cub = folder / "CUB_200_2011"
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0, x1, y1 = BOX
    mask[y0:y1, x0:x1] = 255
    rows = [(label, f"{species}/{i}.jpg") for label, species in enumerate(SPECIES) for i in range(images)]
    for _, name in rows:
        for path in (cub / "images" / name, (cub / "segmentations" / name).with_suffix(".png")):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), RED).save(cub / "images" / name)
        Image.fromarray(mask).save((cub / "segmentations" / name).with_suffix(".png"))
    texts = {
        "images.txt": [f"{i} {name}" for i, (_, name) in enumerate(rows, start=1)],
        "image_class_labels.txt": [f"{i} {label + 1}" for i, (label, _) in enumerate(rows, start=1)],
        "train_test_split.txt": [f"{i} {i % 2}" for i in range(1, len(rows) + 1)],
        "bounding_boxes.txt": [f"{i} {x0}.0 {y0}.0 {x1 - x0}.0 {y1 - y0}.0" for i in range(1, len(rows) + 1)],
        "classes.txt": [f"{i} {name}" for i, name in enumerate(SPECIES, start=1)],
    }
    for name, lines in texts.items():
        (cub / name).write_text("\n".join(lines) + "\n")
    return cub


def write_places(folder: Path, places: dict[str, tuple[int, int, int]], pictures: int = 40) -> Path:
    """Plain pictures of a colour for each place; the last channel counts them."""
    for place, (red, green, _) in places.items():
        (folder / place / "sub").mkdir(parents=True)
        for i in range(pictures):
            Image.new("RGB", (50, 20), (red, green, i)).save(folder / place / "sub" / f"{i:02d}.png")
    return folder


LAND_AND_WATER = {"land": (0, 255, 0), "water": (0, 0, 255)}


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(path).convert("RGB")).astype(np.int64)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 1.0])
def test_waterbirds_of_any_correlation(tmp_path: Path, correlation: float) -> None:
    cub, places = write_cub(tmp_path, images=20), write_places(tmp_path / "places", LAND_AND_WATER, pictures=60)
    folder = synthesize_waterbirds(cub, places, tmp_path / "out", correlation=correlation, seed=3)
    found = Counter((row["split"], row["y"], row["place"]) for row in rows(folder))
    assert sum(found.values()) == 80
    assert sum(n for (split, _, _), n in found.items() if split == "1") == 8  # 20 % of 40
    for label in "01":
        fits, others = found["0", label, label], found["0", label, str(1 - int(label))]
        on_water = correlation if label == "1" else 1 - correlation
        assert found["0", label, "1"] == round(on_water * (fits + others))
        for split in "12":
            counts = (found[split, label, "0"], found[split, label, "1"])
            assert abs(counts[0] - counts[1]) <= 1
    assert Counter(row["y"] for row in rows(folder) if row["img_filename"].startswith("021")) == {"1": 20}
    assert len({row["place_filename"] for row in rows(folder)}) == 80  # each background once
    assert list(rows(folder)[0]) == ["img_id", "img_filename", "y", "split", "place", "place_filename"]


def test_waterbirds_pixels_and_loader(tmp_path: Path) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", LAND_AND_WATER)
    for correlation, version in ((0.95, "95"), (1.0, "100")):
        folder = synthesize_waterbirds(cub.parent, places, tmp_path / "out", correlation=correlation)
        source = load_waterbirds(tmp_path / "out", "train", version=version)
        assert source.records[0].path.parent.parent == folder
        assert source.read_segments is not None
        for split in ("train", "val", "test"):
            source = load_waterbirds(tmp_path / "out", split, version=version)
            check = check_split(source)
            assert check.mistakes == 0, check.problems
            for record in source.records:
                image = pixels(record.path)
                assert np.abs(image[12, 14] - RED).max() < 12  # the bird, from CUB
                place = LAND_AND_WATER["water" if record.group % 2 else "land"]
                assert np.abs(image[2:4, 2:4, :2] - place[:2]).max() < 12  # the place of the group
                assert record.boxes == (tuple(map(float, BOX)),)
        assert {r.group for r in source.records} == {0, 1, 2, 3}


def test_synthesis_depends_on_the_seed_alone(tmp_path: Path) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", LAND_AND_WATER)

    def make(name: str, seed: int, threads: int = 1) -> dict[str, bytes]:
        folder = synthesize_waterbirds(cub, places, tmp_path / name, correlation=0.8, seed=seed, threads=threads)
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first = make("a", 1)
    assert first == make("b", 1, threads=3)
    assert first["metadata.csv"] != make("c", 2)["metadata.csv"]
    with pytest.raises(ValueError, match="exists; delete it"):
        make("a", 1)


def test_labels_follow_the_released_sets(tmp_path: Path) -> None:
    found = sample("waterbirds100").glob("waterbird_1.0*/metadata.csv")
    for row in rows(next(found).parent):
        assert is_waterbird(row["img_filename"]) == int(row["y"])
    assert is_waterbird("021.Eastern_Towhee/x.jpg") == 1
    assert is_waterbird("021.Eastern_Towhee/x.jpg", corrected=True) == 0
    assert is_waterbird("066.Western_Gull/x.jpg", corrected=True) == 1


TRAVEL = {"beach": (0, 0, 0), "city": (0, 120, 0), "moon": (120, 120, 0), "sky": (0, 240, 0)}


def test_traveling_birds(tmp_path: Path) -> None:
    cub, places = write_cub(tmp_path, images=40), write_places(tmp_path / "places", TRAVEL, pictures=5)
    folder = synthesize_traveling_birds(cub, places, tmp_path / "out", correlation=0.8, seed=5)
    train = [row for row in rows(folder) if row["split"] == "0"]
    test = [row for row in rows(folder) if row["split"] == "2"]
    assert (len(train), len(test)) == (80, 80)
    own = {}
    for label in "0123":
        counts = Counter(row["place"] for row in train if row["y"] == label)
        (own[label], count), *_ = counts.most_common()
        assert count == 16  # 0.8 of 20
        assert len({row["place"] for row in test if row["y"] == label}) == 4
    assert len(set(own.values())) == 4  # as many places as classes: none is shared
    assert 8 <= sum(row["place"] == own[row["y"]] for row in test) <= 32  # 20 of 80 by chance
    source = load_traveling_birds(tmp_path / "out", "test")
    assert len(source.records) == 80
    assert check_split(source).mistakes == 0
    by_name = {row["img_filename"]: row for row in rows(folder)}
    for record in source.records:
        row = by_name[str(record.path.relative_to(folder))]
        assert int(row["y"]) == record.classes[0]
        assert np.abs(pixels(record.path)[2, 2, :2] - list(TRAVEL.values())[int(row["place"])][:2]).max() < 12
    assert load_traveling_birds(tmp_path / "out", "train").records


def test_all_training_birds_travel_to_their_own_place_by_default(tmp_path: Path) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", TRAVEL)
    train = [r for r in rows(synthesize_traveling_birds(cub, places, tmp_path / "out")) if r["split"] == "0"]
    assert len({(row["y"], row["place"]) for row in train}) == 4


def test_compose_blends_and_covers(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2), (100, 0, 0)).save(tmp_path / "bird.png")
    Image.fromarray(np.array([[0, 51, 255, 255], [0, 0, 0, 255]], np.uint8)).save(tmp_path / "mask.png")
    wide = np.zeros((2, 12, 3), np.uint8)
    wide[:, 4:8, 1] = 200  # the centre is kept
    Image.fromarray(wide).save(tmp_path / "place.png")
    mixed = np.asarray(compose(tmp_path / "bird.png", tmp_path / "mask.png", tmp_path / "place.png"))
    assert mixed[0].tolist() == [[0, 200, 0], [20, 160, 0], [100, 0, 0], [100, 0, 0]]
    assert mixed[1, :3].tolist() == [[0, 200, 0]] * 3
    Image.new("RGB", (3, 9), (0, 80, 0)).save(tmp_path / "place.png")  # too small: enlarged
    mixed = np.asarray(compose(tmp_path / "bird.png", tmp_path / "mask.png", tmp_path / "place.png"))
    assert mixed[1].tolist() == [[0, 80, 0]] * 3 + [[100, 0, 0]]
    Image.new("L", (3, 2)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png has another size"):
        compose(tmp_path / "bird.png", tmp_path / "mask.png", tmp_path / "place.png")
    (tmp_path / "mask.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"mask\.png cannot be read"):
        compose(tmp_path / "bird.png", tmp_path / "mask.png", tmp_path / "place.png")


def test_faulty_synthesis_input(tmp_path: Path) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", {"land": (0, 0, 0)})
    with pytest.raises(ValueError, match=r"water holds no picture; expected .*<place>/\*\.jpg"):
        synthesize_waterbirds(cub, places, tmp_path / "out")
    with pytest.raises(ValueError, match="at least two folders"):
        synthesize_traveling_birds(cub, places, tmp_path / "out")
    with pytest.raises(ValueError, match=r"correlation must lie between 0 and 1; got 1\.5"):
        synthesize_waterbirds(cub, places, tmp_path / "out", correlation=1.5)
    with pytest.raises(ValueError, match=r"Expected layout(.|\n)*train_test_split"):
        synthesize_waterbirds(tmp_path / "nowhere", places, tmp_path / "out")
    write_places(tmp_path / "places2", LAND_AND_WATER)
    write_broken(cub / "images" / SPECIES[0] / "3.jpg")
    with pytest.raises(ValueError, match=r"3\.jpg cannot be read"):
        synthesize_waterbirds(cub, tmp_path / "places2", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["CUB_200_2011"]
    (cub / "segmentations" / SPECIES[0] / "3.png").unlink()
    with pytest.raises(ValueError, match=r"3\.jpg has no segmentation"):
        synthesize_waterbirds(cub, tmp_path / "places2", tmp_path / "out2")


def test_few_backgrounds_serve_in_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", LAND_AND_WATER, pictures=3)
    assert len(read_backgrounds(places, ["land"])["land"]) == 3
    counts = Counter(row["place_filename"] for row in rows(synthesize_waterbirds(cub, places, tmp_path / "out")))
    for place in ("land", "water"):
        used = [count for name, count in counts.items() if name.startswith(f"/{place}/")]
        assert len(used) == 3
        assert max(used) - min(used) <= 1
    assert "fewer backgrounds than birds" in caplog.text


# --- verify


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


def write_config(tmp_path: Path, **data: Any) -> Path:
    content = {
        "data": {"name": "demo", "root": str(tmp_path / "demo"), "num_train": 40, "num_val": 12, "num_test": 12,
                 "image_size": 32, "num_workers": 0, **data},
        "model": {"name": "resnet18"},
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments: object) -> int:
    return prepare_data.main([str(argument) for argument in arguments])


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


def test_a_test_split_that_is_another_name_is_not_read_twice(tmp_path: Path) -> None:
    splits = {"train": [[], []], "val": [[]], "test": [[]]}
    sources = {
        name: replace(make_source(tmp_path / name.replace("test", "val"), boxes), split=name)
        for name, boxes in splits.items()
    }
    config = load_config(write_config(tmp_path))
    assert list(prepare_data.read_splits(config, [], sources.__getitem__, [])) == [sources["train"], sources["val"]]
    named = list(prepare_data.read_splits(config, ["val", "test", "val"], sources.__getitem__, []))
    assert named == [sources["val"], sources["test"]]
    sources["test"] = make_source(tmp_path / "test", [[]])
    assert list(prepare_data.read_splits(config, [], sources.__getitem__, [])) == list(sources.values())


def test_the_cache_of_training_images_has_its_own_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, cache=str(tmp_path / "cache"), cache_size=40, augmentation="crop_flip")
    assert run("cache", "--config", config) == 0
    sizes = [line.split(" images of ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sizes == ["40", "32", "32"]


def test_cache_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    assert run("cache", "--config", config) == 2
    assert "add --set data.cache=FOLDER" in capsys.readouterr().err
    arguments = ["cache", "--config", config, "--set", f"data.cache={tmp_path / 'cache'}"]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines()] == ["train", "val", "test"]
    assert out.count(" built: ") == 3
    assert "40 images of 32 pixels, 3,198 bytes per image (0.1 MB)" in out
    (test,) = (tmp_path / "cache").glob("demo_test_*")
    content = test.read_bytes()
    test.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert out.count(" checked: ") == 2
    assert "built anew, because pixels were damaged" in out
    assert test.read_bytes() == content


def test_subset_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    assert run("subset", "--config", config, "--fractions", 0.5, 0.1, 1, "--output", tmp_path / "subsets") == 0
    assert "20 of 40 images" in capsys.readouterr().out
    found = {f: json.loads((tmp_path / "subsets" / f"annotated_{f}.json").read_text()) for f in ("0.1", "0.5", "1")}
    sets = [set(content["indices"]) for content in found.values()]
    assert [len(s) for s in sets] == [4, 20, 40]
    assert sets[0] < sets[1] < sets[2]
    content = found["0.1"]
    assert content["images"] == [f"images/train/{i:05d}.png" for i in content["indices"]]
    assert (content["annotated_fraction"], content["seed"], content["split"]) == (0.1, 0, "train")
    assert run("subset", "--config", config, "--fractions", 2, "--output", tmp_path / "subsets") == 2


def test_synthesize_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cub, places = write_cub(tmp_path), write_places(tmp_path / "places", LAND_AND_WATER)
    inputs = ["--cub", cub, "--backgrounds", places, "--output", tmp_path / "out"]
    assert run("synthesize", "waterbirds", *inputs, "--correlation", 0.7, "--corrected-labels") == 0
    folder = tmp_path / "out" / "waterbird_complete70_forest2water2"
    assert f"data.root={folder}\n" in capsys.readouterr().out
    assert Counter(row["y"] for row in rows(folder)) == {"0": 20, "1": 20}
    assert load_waterbirds(folder, "train").records
    assert run("synthesize", "waterbirds", *inputs, "--correlation", 0.95, "--seed", 4) == 0
    assert (
        f"data.root={tmp_path / 'out' / 'waterbird_complete95_forest2water2'} data.version=95\n"
        in capsys.readouterr().out
    )
    assert load_waterbirds(tmp_path / "out" / "waterbird_complete95_forest2water2", "train", version="95").records
    assert run("synthesize", "traveling_birds", *inputs, "--correlation", 1) == 0
    assert load_traveling_birds(tmp_path / "out" / "CUB_fixed", "train").records
    assert run("synthesize", "waterbirds", *inputs) == 2
    assert "exists; delete it" in capsys.readouterr().err
    assert run("synthesize", "traveling_birds", *inputs, "--corrected-labels") == 2
    assert "--corrected-labels belongs to waterbirds" in capsys.readouterr().err


# --- verify and cache of one's own images


def custom_config(tmp_path: Path, name: str = "custom", **data: Any) -> Path:
    data = {"name": name, "root": str(tmp_path / "set"), "cache": str(tmp_path / "cache"), "image_size": 32} | data
    return write_text(tmp_path / "custom.yaml", yaml.safe_dump({"data": data, "model": {"name": "resnet18"}}))


def cells(out: str, name: str) -> list[str]:
    """The row `name` of verify's table: train, val, and test where it is there."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).split()


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
    assert [line.split(":")[0] for line in captured.out.splitlines()] == ["train", "val"]  # what can be built is
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


def test_verify_checks_the_pixels_of_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, cache=str(tmp_path / "cache"))
    assert run("cache", "--config", config) == 0
    assert run("verify", "--config", config) == 0
    (path,) = (tmp_path / "cache").glob("demo_val_*")
    content = bytearray(path.read_bytes())
    content[4096 + 3 * 32 * 32 + 5] ^= 1  # one bit of one pixel of the second image
    path.write_bytes(content)
    assert run("verify", "--config", config, "--quick") == 0
    capsys.readouterr()
    assert run("verify", "--config", config) == 1
    out = capsys.readouterr().out
    assert cells(out, "damaged images in the cache") == ["0", "1", "0"]
    assert f"00001.png is damaged in {path}; `cache` builds it anew" in out


# --- classes with a region


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
