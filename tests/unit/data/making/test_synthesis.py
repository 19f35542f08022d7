"""Waterbirds and TravelingBirds of any correlation, made from CUB and pictures of places."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from guidance.data.making.scenes import compose, read_backgrounds
from guidance.data.making.synthesis import is_waterbird, synthesize_traveling_birds, synthesize_waterbirds
from guidance.data.reading.split_checks import check_split
from guidance.data.sets.traveling_birds import load_traveling_birds
from guidance.data.sets.waterbirds import load_waterbirds
from tests.conftest import sample
from tests.support.data.birds import BOX, LAND_AND_WATER, SPECIES, rows, write_cub, write_places
from tests.support.data.pictures import write_broken

RED, HEIGHT, WIDTH = (200, 10, 10), 24, 32


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
