"""The command: what it writes beside the file, what it refuses, and that nothing wrong is left behind."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.data.sets.demo import load_demo
from guidance.evaluation.significance import share
from guidance.export import export, formats
from guidance.export.card import model_card
from guidance.inference import evaluate_checkpoint
from guidance.models import BACKBONES
from guidance.runs.checkpoint import save
from tests.support.runs import COUNTS
from tests.unit.tools.export.conftest import MakeRun
from tools import export as tool


def store(folder: Path, run: Any) -> Path:
    """A run folder with its last checkpoint."""
    state = {
        "config": run.config.model_dump(mode="json"),
        "classes": list(run.classes),
        "model": run.model.state_dict(),
    }
    save(folder / "checkpoints/last.pt", state | {"metrics": run.metrics, "epoch": run.epoch, "step": run.step})
    return folder


def test_files_of_a_run(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guided = {"localization": {"weight": 0.5}, "attribution": {"method": "bcos", "depth": "input"}}
    data = {"name": "demo", "image_size": 32, **COUNTS}
    classes = load_demo(tmp_path / "data", "val", image_size=32, **COUNTS).classes
    run = make_run("tiny_bcos", classes, data=data, objective=guided)
    folder = store(tmp_path / "run", run)
    assert tool.main([str(folder), "--to", "torch.export", "--maps", "--evaluate", "test"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"run on images of demo val; .*: logits \d\.\de[+-]\d+, maps \d\.\de[+-]\d+\n", printed)
    beside = json.loads((folder / "export.pt2.json").read_text())
    assert beside["classes"] == list(run.classes)
    assert (beside["image_size"], beside["labels"], beside["activation"]) == (32, "single", "softmax")
    assert beside["resize"] == "the whole image to 32 x 32 pixels, bilinear, antialiased"
    assert beside["maps"]["method"] == "bcos"
    assert beside["maps"]["iou_threshold"] == 0.5
    assert (beside["epoch"], beside["step"]) == (3, 12)
    card = (folder / "export.pt2.md").read_text()
    for line in (
        "On the split test, 11 images",
        "![Typical images, and those of the lowest EPG, with their maps](export.pt2.png)",
        "- objective.localization.weight: 0.5",
        "- val: 10 images (groups: ",
        "- guided by: energy loss on maps of bcos at input",
    ):
        assert line in card
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "export.pt2", "export.pt2.json", "export.pt2.md", "export.pt2.png"
    ]  # fmt: skip
    found = evaluate_checkpoint(folder, "test")
    right = round(found["accuracy"] * 11)
    low, high = share(right, 11)[2:]
    assert f"| accuracy | {right / 11:.4f} | {low:.4f} to {high:.4f} |" in card
    ((epg, interval),) = re.findall(r"\| epg \| ([\d.]+) \| ([\d.]+ to [\d.]+) \|", card)
    low, high = map(float, interval.split(" to "))
    assert low <= float(epg) == pytest.approx(found["epg"], abs=1e-4)  # one class an image: its mean is the metric
    assert high > low
    assert "| accuracy | 0.7500 |" in model_card(run, beside, None, "")  # of the run, where nothing is evaluated


def test_what_differs_is_not_left_behind(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("resnet18")
    row = formats.FORMATS["torchvision"]

    def changed(path: Path, *rest: Any) -> None:
        row.write(path, *rest)
        state = torch.load(path, weights_only=True)
        state["fc.bias"] += 1e-3
        torch.save(state, path)

    output = tmp_path / "out" / "net.pth"
    monkeypatch.setattr("guidance.export.writing.FORMATS", {"torchvision": replace(row, write=changed)})
    with pytest.raises(ValueError, match=r"the logits of the exported net differ from ours by .*; nothing was written"):
        export(run, "torchvision", output)
    assert list(output.parent.iterdir()) == []


def test_mistakes_are_named(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(name: str, *arguments: str, **sections: Any) -> str:
        folder = store(tmp_path / name, make_run(name, **sections))
        assert tool.main([str(folder), *arguments]) == 2
        assert [path.name for path in folder.iterdir()] == ["checkpoints"]
        return capsys.readouterr().err

    for name in ("tiny_bcos", "tiny_xdnn", "resnet8"):
        assert f"torchvision has no net {name}" in fails(name, "--to", "torchvision")
    assert "plain weights have no second output" in fails("resnet8", "--to", "torchvision", "--maps")
    plain = fails("convnext_tiny", "--to", "torch.export", "--maps")
    assert "convnext_tiny has no pullback to depth 'input'" in plain
    assert "net.pth: a file of onnx ends in .onnx" in fails("tiny_bcos", "--to", "onnx", "--output", "net.pth")
    gradcam = ("--set", "evaluation.attribution.method=gradcam", "evaluation.attribution.depth=final")
    assert "--maps: gradcam is more than one gradient" in fails("tiny_bcos", "--to", "torch.export", "--maps", *gradcam)
    if importlib.util.find_spec("onnxscript") is None:
        assert "pip install -e '.[onnx]'" in fails("tiny_bcos", "--to", "onnx")


@pytest.mark.parametrize("arguments", [[], ["run", "--model", "resnet18"]])
def test_one_net(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        tool.parse([*arguments, "--to", "onnx"])


def test_a_net_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        state = BACKBONES["resnet18"].build(1000).net.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    output = tmp_path / "net.pth"
    arguments = ["--model", "resnet18", "--weights", str(tmp_path / "weights.pth"), "--to", "torchvision"]
    assert tool.main([*arguments, "--output", str(output)]) == 0
    assert "random images" in capsys.readouterr().out
    assert torch.equal(torch.load(output, weights_only=True)["conv1.weight"], state["conv1.weight"])
    assert "not trained by this project" in (tmp_path / "net.pth.md").read_text()


def test_formats_are_known_without_torch() -> None:
    assert tuple(formats.FORMATS) == tool.KINDS
