"""The commands of tools/prepare_data.py."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from guidance.config import load_config
from guidance.data.sets.traveling_birds import load_traveling_birds
from guidance.data.sets.waterbirds import load_waterbirds
from tests.support.data.birds import LAND_AND_WATER, rows, write_cub, write_places
from tests.support.data.pictures import make_source
from tests.support.data.preparing import cells, run, write_config
from tools import prepare_data


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
    assert sizes == ["40", "32", "32", "32", "32"]  # of evaluation, images and segmentations


def test_cache_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    assert run("cache", "--config", config) == 2
    assert "add --set data.cache=FOLDER" in capsys.readouterr().err
    arguments = ["cache", "--config", config, "--set", f"data.cache={tmp_path / 'cache'}"]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    # Training guides by boxes, so its segmentations are not cached.
    assert [line.split(":")[0] for line in out.splitlines()] == ["train", "val", "val", "test", "test"]
    assert out.count(" built: ") == 5
    assert "pixels of 40 images of 32 pixels, 3,198 bytes per image (0.1 MB)" in out
    assert (
        "segmentations of 12 images of 32 pixels, 493 bytes per image (0.0 MB)" in out
    )  # 341 of them are the header's
    (test,) = (tmp_path / "cache").glob("demo_test_*.images")
    content = test.read_bytes()
    test.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert out.count(" checked: ") == 4
    assert "built anew, because pixels were damaged" in out
    assert test.read_bytes() == content
    (test,) = (tmp_path / "cache").glob("demo_test_*.segments")
    content = test.read_bytes()
    test.write_bytes(content[:4100] + bytes([content[4100] ^ 1]) + content[4101:])
    assert run(*arguments) == 0
    assert "built anew, because segmentations were damaged" in capsys.readouterr().out
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


def test_verify_checks_the_pixels_of_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, cache=str(tmp_path / "cache"))
    assert run("cache", "--config", config) == 0
    assert run("verify", "--config", config) == 0
    (path,) = (tmp_path / "cache").glob("demo_val_*.images")
    content = bytearray(path.read_bytes())
    content[4096 + 3 * 32 * 32 + 5] ^= 1  # one bit of one pixel of the second image
    path.write_bytes(content)
    assert run("verify", "--config", config, "--quick") == 0
    capsys.readouterr()
    assert run("verify", "--config", config) == 1
    out = capsys.readouterr().out
    assert cells(out, "damaged images in the cache") == ["0", "1", "0"]
    assert f"00001.png is damaged in {path}; `cache` builds it anew" in out
    (path,) = (tmp_path / "cache").glob("demo_val_*.segments")
    content = bytearray(path.read_bytes())
    content[4096 + 2 * 128 + 7] ^= 1  # of the third image
    path.write_bytes(content)
    assert run("verify", "--config", config) == 1
    assert "a segmentation of image" in capsys.readouterr().out
