"""The benchmark runs, prints every variant, and forces the double backward where it says so."""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidance.attribution import CompiledNet, Method, Request, attribute, one_hot
from guidance.attribution.compiled import TRACEABLE
from guidance.models import build_model
from guidance.models.classifier import Classifier
from guidance.training.stopwatch import OTHER, SPANS
from guidance.training.trainer import Trainer
from tests.support.data.pictures import write_picture
from tools.benchmarks import data, ddp, loop, step

ROOT = Path(__file__).parents[4]


@pytest.mark.usefixtures("tiny_nets")
def test_step_prints_every_variant(benchmark: Callable[..., str]) -> None:
    arguments = ["--family", "xdnn", "--batch", "2", "--size", "32", "--rounds", "1", "--no-memory"]
    printed = benchmark("step", *arguments)
    for variant in step.variants(["xdnn"]):
        assert str(variant) in printed
    assert "1.00x" in printed


@pytest.mark.usefixtures("tiny_nets")
def test_lens_prints_the_price_of_further_classes(benchmark: Callable[..., str]) -> None:
    arguments = ["--family", "xdnn", "bcos", "--batch", "1", "--size", "32", "--rounds", "1"]
    printed = benchmark("lens", *arguments)
    found = re.findall(r"^(\w+), (\d) class(?:es)? +[\d.]+ +([\d.]+)x +([\d.]+)x$", printed, re.MULTILINE)
    assert [(family, k) for family, k, _, _ in found] == [(f, k) for f in ("xdnn", "bcos") for k in "124"]
    assert [(ratio, limit) for _, k, ratio, limit in found if k == "1"] == [("1.00", "1.0")] * 2
    assert {limit for _, k, _, limit in found if k == "4"} == {"3.1"}


@pytest.mark.usefixtures("tiny_nets")
def test_evaluation_prints_each_ratio_beside_its_bar(
    benchmark: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = import_module("benchmarks.evaluation")
    measure, measured = evaluation.measure, {}
    monkeypatch.setattr(evaluation, "measure", lambda args: measured.update(measure(args)) or measured)
    arguments = ["--family", "xdnn", "bcos", "vanilla_frozen", "--batch", "3", "--size", "32", "--rounds", "1"]
    printed = benchmark("evaluation", *arguments)
    row = r"^(\w+), ([\w ]+?) +([\d.]+) +([\d.]+)x( +[\d.]+x)? +(\w[\w ]*)$"
    found = re.findall(row, printed, re.MULTILINE)
    assert "6 pairs of 3 images" in printed
    limits = {"forward": "", "input": "3.60x", "mid2": "2.20x", "final": "1.10x", "scores alone": "0.02x"}
    limits |= {"1 of 1 image": "1.00x", "2 of 1 image": "1.70x", "4 of 1 image": "3.10x"}
    wanted = [(family, what, limit) for family in ("xdnn", "bcos", "vanilla_frozen") for what, limit in limits.items()]
    assert [(family, what, limit.strip()) for family, what, _, _, limit, _ in found] == wanted
    seconds = {(timed.family, timed.what): value for timed, value in measured.items()}
    for family, what, time, ratio, _, over in found:
        assert float(time) == pytest.approx(seconds[family, what], abs=0.00051), what
        assert float(ratio) == pytest.approx(seconds[family, what] / seconds[family, over], abs=0.0051), what


@pytest.mark.usefixtures("tiny_nets")
@pytest.mark.skipif(not TRACEABLE, reason="torch 2.6 cannot trace how a net is explained")
def test_evaluations_are_compiled_too(benchmark: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the forward pass that is not compiled, with a backend that only traces; each kind of call has its graph."""
    nets: list[CompiledNet] = []

    def net(model: Classifier) -> CompiledNet:
        nets.append(CompiledNet(model, backend="eager"))
        return nets[-1]

    monkeypatch.setattr(import_module("benchmarks.evaluation"), "CompiledNet", net)
    arguments = ["--family", "xdnn", "--batch", "3", "--size", "32", "--rounds", "1", "--compile"]
    printed = benchmark("evaluation", *arguments)
    found = re.findall(r"^xdnn, (\w+), compiled +[\d.]+ +[\d.]+x( +[\d.]+x)? +forward$", printed, re.MULTILINE)
    assert [(what, limit.strip()) for what, limit in found] == [
        ("forward", ""), ("input", "3.60x"), ("mid2", "2.20x"), ("final", "1.10x"),
    ]  # fmt: skip
    assert [compiled.graphs for compiled in nets] == [4]


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
        line[:20].strip(): line[20:].split()
        for line in out.splitlines()
        if re.match(r"\w+: (image|sample|segmented) ", line)
    }
    loaded = ("image", "sample", "segmented")
    assert list(speeds) == ["published: image", *(f"{way}: {what}" for way in ("decoded", "cached") for what in loaded)]
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
    ways = data.loaders(data.source_of(paths, tmp_path / "masks"), 48, tmp_path / "cache")
    for i in range(2):
        published, decoded = ways["published: image"](i), ways["decoded: image"](i)
        assert isinstance(published, Tensor)
        assert isinstance(decoded, dict)
        assert (published - decoded["image"]).abs().max() < 0.02  # one step of uint8
        assert torch.equal(decoded["image"], ways["cached: image"](i)["image"])
        for what in ("sample", "segmented"):
            assert torch.equal(ways[f"decoded: {what}"](i).masks, ways[f"cached: {what}"](i).masks)
        assert not torch.equal(ways["cached: segmented"](i).masks, ways["cached: sample"](i).masks)


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


def test_loop_prints_where_the_time_of_an_epoch_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of the table are those of the log; the steps alone are those of the epoch, and leave the run as it was."""
    monkeypatch.setattr(loop, "SAMPLE", tmp_path / "nothing")
    args = argparse.Namespace(batch=4, size=32, rounds=1, workers=0, device="cpu", threads=1)
    done: list[int] = []
    steps = loop.seconds_of_steps

    def counted(trainer: Trainer) -> float:
        seconds = steps(trainer)
        done.append(trainer.step)
        return seconds

    monkeypatch.setattr(loop, "seconds_of_steps", counted)
    out = io.StringIO()
    with redirect_stdout(out):
        loop.benchmark_loop(args)
    assert done == [10, 20]  # of 40 generated shapes
    text = out.getvalue()
    assert "an epoch: 10 batches of 4" in text
    found = dict(re.findall(r"^(\w+) +[\d.]+ +([\d.]+)%$", text, re.MULTILINE))
    assert list(found) == [*SPANS, OTHER, "epoch"]
    assert sum(float(share) for name, share in found.items() if name != "epoch") == pytest.approx(100, abs=0.5)
    assert re.search(r"^without evaluation / steps alone +[\d.]+x  at most 1.03$", text, re.MULTILINE)


@pytest.mark.long
def test_ddp_measures_both_kinds_of_steps_and_calculates_from_them() -> None:
    arguments = ["--family", "xdnn", "--batch", "1", "--size", "32", "--rounds", "1", "--step-seconds", "0.5"]
    command = [sys.executable, "tools/benchmark.py", "ddp", *arguments]  # which spawns
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for variant in ("xdnn unguided", "xdnn guided at input"):
        assert f"{variant}, 1 images of 32 pixels on each process: measured on this machine" in printed
        assert re.search(rf"^{variant}, [\d.]+ s a step ", printed, re.MULTILINE)
    assert "xdnn unguided, 0.5 s a step" in printed
    assert printed.count("gradients: 94.0 MB in 4 parts") == 2  # 23.5 million weights
    assert printed.count("100 % of the backward pass") == 2
    measured, calculated = printed.split("Calculated, not measured")
    assert "2 processes, not reduced" in measured
    assert all(calculated.count(name) == 2 for name in ddp.NETWORKS)


def test_a_ring_carries_each_byte_twice_less_a_share() -> None:
    network = ddp.Network(gpus=8, bandwidth=1e9)
    assert network.seconds(8e9) == pytest.approx(2 * 7 * (1.0 + ddp.LATENCY))
    assert ddp.Network(2, 1e9).seconds(0) == pytest.approx(2 * ddp.LATENCY)


def test_gradients_are_reduced_in_parts_one_after_the_other() -> None:
    ready = [(6, 0.2), (3, 0.3), (4, 0.5), (20, 0.9), (1, 1.0)]
    parts = ddp.buckets(ready, limit=8)
    assert parts == [(9, 0.3), (24, 0.9), (1, 1.0)]
    assert ddp.cumulated(parts) == [(9, 0.3), (33, 0.9), (34, 1.0)]


def test_what_the_backward_pass_does_not_hide() -> None:
    """A link of 100 MB/s, one part of 25 MiB at the half of ten seconds, and one at their end."""
    network = ddp.Network(2, 1e8)
    part = network.seconds(ddp.BUCKET)
    assert part == pytest.approx(0.262144 + 2 * ddp.LATENCY)
    assert ddp.exposed([(ddp.BUCKET, 0.5), (ddp.BUCKET, 1.0)], 10.0, network) == pytest.approx(part)
    assert ddp.exposed([(ddp.BUCKET, 0.5)], 10.0, network) == 0
    # Too late, all of it: the second part waits for the first.
    assert ddp.exposed([(ddp.BUCKET, 0.99), (ddp.BUCKET, 1.0)], 10.0, network) == pytest.approx(2 * part - 0.1)
