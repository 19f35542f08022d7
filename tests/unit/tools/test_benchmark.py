"""The benchmark runs, prints every variant, and forces the double backward where it says so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidance.attribution import Method, Request, attribute, one_hot
from guidance.models import build_model
from tests.support.data.pictures import write_picture
from tools.benchmarks import data, step

ROOT = Path(__file__).parents[3]


def test_step_prints_every_variant() -> None:
    arguments = ["--family", "xdnn", "--batch", "2", "--size", "32", "--rounds", "1", "--threads", "1", "--no-memory"]
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", "step", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for variant in step.variants(["xdnn"]):
        assert str(variant) in done.stdout
    assert "1.00x" in done.stdout


def test_lens_prints_the_price_of_further_classes() -> None:
    arguments = ["--family", "xdnn", "bcos", "--batch", "1", "--size", "32", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", "lens", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = re.findall(r"^(\w+), (\d) class(?:es)? +[\d.]+ +([\d.]+)x +([\d.]+)x$", done.stdout, re.MULTILINE)
    assert [(family, k) for family, k, _, _ in found] == [(f, k) for f in ("xdnn", "bcos") for k in "124"]
    assert [(ratio, limit) for _, k, ratio, limit in found if k == "1"] == [("1.00", "1.0")] * 2
    assert {limit for _, k, _, limit in found if k == "4"} == {"3.1"}


def test_evaluation_prints_each_ratio_beside_its_bar() -> None:
    arguments = ["--family", "xdnn", "bcos", "vanilla_frozen", "--batch", "3", "--size", "32", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", "evaluation", *arguments, "--threads", "1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    row = r"^(\w+), ([\w ]+?) +([\d.]+) +([\d.]+)x( +[\d.]+x)? +(\w[\w ]*)$"
    found = re.findall(row, done.stdout, re.MULTILINE)
    assert "6 pairs of 3 images" in done.stdout
    limits = {"forward": "", "input": "3.60x", "mid2": "2.20x", "final": "1.10x", "scores alone": "0.02x"}
    limits |= {"1 of 1 image": "1.00x", "2 of 1 image": "1.70x", "4 of 1 image": "3.10x"}
    wanted = [(family, what, limit) for family in ("xdnn", "bcos", "vanilla_frozen") for what, limit in limits.items()]
    assert [(family, what, limit.strip()) for family, what, _, _, limit, _ in found] == wanted
    seconds = {(family, what): float(time) for family, what, time, *_ in found}
    for family, what, time, ratio, _, over in found:
        assert float(ratio) == pytest.approx(float(time) / seconds[family, over], rel=0.1, abs=0.02), what


def test_double_backward_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("xdnn_resnet18", num_classes=3)
    out = model(torch.rand(2, 3, 32, 32).requires_grad_())
    assert "input" in out.pullbacks
    calls = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or real(*a, **k))
    seed = one_hot(torch.tensor([1]), 3)
    method = Method(step.by_double_backward)
    attribute(model, Request(method, "input", torch.tensor([0]), seed, create_graph=True, rounds=1, out=out))
    assert calls


def test_data_measures_every_way_on_generated_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "__file__", str(tmp_path / "project" / "tools" / "benchmarks" / "data.py"))
    data.benchmark_data(None, size=224, images=4, rounds=1)
    out = capsys.readouterr().out
    assert "generated: 4 images to 224 x 224 pixels" in out
    speeds = {
        line[:20].strip(): line[20:].split() for line in out.splitlines() if re.match(r"\w+: (image|sample) ", line)
    }
    assert list(speeds) == ["published: image", "decoded: image", "decoded: sample", "cached: image", "cached: sample"]
    number = {way: float(columns[0].replace(",", "")) for way, columns in speeds.items()}
    assert float(speeds["cached: image"][1][:-1]) == pytest.approx(
        number["cached: image"] / number["published: image"], rel=0.1
    )
    assert float(speeds["cached: image"][2][:-1]) == pytest.approx(
        number["cached: image"] / number["decoded: image"], rel=0.1
    )
    assert "602,112 as float32" in out


def test_data_ways_load_the_same_image(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{i}.png", height=120, width=90, seed=i) for i in range(2)]
    ways = data.loaders(data.source_of(paths), 48, tmp_path / "cache")
    for i in range(2):
        published, decoded = ways["published: image"](i), ways["decoded: image"](i)
        assert isinstance(published, Tensor)
        assert isinstance(decoded, dict)
        assert (published - decoded["image"]).abs().max() < 0.02  # one step of uint8
        assert torch.equal(decoded["image"], ways["cached: image"](i)["image"])
        assert torch.equal(ways["decoded: sample"](i).masks, ways["cached: sample"](i).masks)


def test_data_takes_images_evenly_of_each_folder(tmp_path: Path) -> None:
    for name in ("a/x", "b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(10):
            (tmp_path / name / f"{i}.jpg").touch()
    found = data.photographs(tmp_path, 5)
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        name: ["0.jpg", "2.jpg", "4.jpg", "6.jpg", "8.jpg"] for name in ("a", "b")
    }
    with pytest.raises(SystemExit, match=r"holds no folder with \.jpg"):
        data.photographs(tmp_path / "b", 5)
