"""Exported nets of every family agree with ours, in every format."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidance.attribution import Request, explain, one_hot
from guidance.data.transforms.encodings import ENCODINGS
from guidance.export import FORMATS, export
from guidance.export.checking import TOLERANCE
from guidance.export.onnx import average_pool_adjoint, run_onnx
from guidance.inference import Run
from guidance.models import BACKBONES
from tests.unit.tools.export.conftest import MakeRun

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra 'onnx' is not installed",
)
FROZEN = {"batchnorm": "frozen"}
# name, its model section, whether maps are exported
NETS = [
    pytest.param("tiny", {}, False, id="plain"),
    pytest.param("tiny", FROZEN, True, id="frozen, with maps"),
    pytest.param("tiny_bcos", {}, True, id="B-cos, with maps"),
    pytest.param("tiny_xdnn", {}, True, id="X-DNN, with maps"),
]


def plain_path(run: Run, images: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and maps of the predicted classes [B] at the input, by autograd."""
    encoded = ENCODINGS[BACKBONES[run.config.model.name].encoding].encode(images)
    out = run.model.explainable(encoded, "input", graph=True)
    with run.model.linearized():
        (gradient,) = torch.autograd.grad(out.logits.gather(1, predicted[:, None]).sum(), out.features["input"])
    return out.logits.detach(), (encoded * gradient).sum(1)


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max() / expected.abs().max()) <= TOLERANCE


@pytest.mark.parametrize(("name", "model", "maps"), NETS)
def test_torch_export(make_run: MakeRun, tmp_path: Path, name: str, model: dict[str, str], maps: bool) -> None:
    run = make_run(name, model={"name": name, **model})
    done = export(run, "torch.export", tmp_path / "net.pt2", maps=maps)
    assert done.differences is not None
    assert list(done.differences) == (["logits", "maps"] if maps else ["logits"])
    extra = {"guidance.json": ""}
    net = torch.export.load(str(done.file), extra_files=extra).module()
    assert json.loads(extra["guidance.json"])["classes"] == list(run.classes)
    for count in (1, 7):  # it was traced with two
        images = torch.rand(count, 3, 32, 32)
        with torch.no_grad():
            found = net(images) if maps else [net(images)]
        for x, y in zip(found, plain_path(run, images, found[0].argmax(1)), strict=False):
            assert x.shape == y.shape
            assert close(x, y)


@needs_onnx
@pytest.mark.parametrize(("name", "model", "maps"), NETS)
def test_onnx(make_run: MakeRun, tmp_path: Path, name: str, model: dict[str, str], maps: bool) -> None:
    run = make_run(name, model={"name": name, **model})
    done = export(run, "onnx", tmp_path / "net.onnx", maps=maps)
    for count in (1, 7):
        images = torch.rand(count, 3, 32, 32)
        found, metadata = run_onnx(done.file, images)
        assert json.loads(metadata["classes"]) == list(run.classes)
        assert len(found) == 1 + maps
        for x, y in zip(found, plain_path(run, images, found[0].argmax(1)), strict=False):
            assert close(x, y)


@pytest.mark.parametrize("kind", ["torch.export", pytest.param("onnx", marks=needs_onnx)])
def test_nets_with_masks(make_run: MakeRun, tmp_path: Path, kind: str) -> None:
    run = make_run("resnet8", objective={"mode": "aim", "classification": "cross_entropy"})
    done = export(run, kind, tmp_path / f"net{FORMATS[kind].suffix}")
    images = torch.rand(3, 3, 32, 32)
    found = FORMATS[kind].read(done.file, run, images)
    assert found is not None
    assert close(found[0], run.model(ENCODINGS["normalized"].encode(images)).logits.detach())
    with pytest.raises(ValueError, match=r"no pullback to depth 'input'.*Leave --maps out"):
        export(run, kind, tmp_path / f"net{FORMATS[kind].suffix}", maps=True)
    with pytest.raises(ValueError, match=r"no net resnet8 with the masks of AIM.*torch.export"):
        export(run, "torchvision", tmp_path / "net.pth")


def test_plain_weights_load_without_this_project(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("resnet18", model={"name": "resnet18", "batchnorm": "frozen"})
    done = export(run, "torchvision", tmp_path / "net.pth")
    code = f"""
import json, sys, torch, torchvision
description = json.load(open({str(done.metadata)!r}))
net = torchvision.models.get_model(description["architecture"], **description["torchvision_options"]).eval()
net.load_state_dict(torch.load({str(done.file)!r}, weights_only=True), strict=True)
mean, std = (torch.tensor(description[name])[:, None, None] for name in ("mean", "std"))
images = torch.linspace(0, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
assert "guidance" not in sys.modules
print(json.dumps(net((images - mean) / std).tolist()))
"""
    alone = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    images = torch.linspace(0, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    expected = run.model(ENCODINGS["normalized"].encode(images)).logits.detach()
    assert close(torch.tensor(json.loads(alone.stdout)), expected)


@pytest.mark.parametrize("name", [pytest.param("vit_b_32", marks=pytest.mark.long), "densenet121"])
def test_plain_weights_of_other_architectures(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    """A ViT for images of another size than its position embedding among them."""
    run = make_run(name, data={"image_size": 64})
    done = export(run, "torchvision", tmp_path / "net.pth")
    assert done.differences is not None
    assert done.differences["logits"] <= TOLERANCE


def test_maps_are_those_of_explain(make_run: MakeRun, tmp_path: Path) -> None:
    """At a depth whose maps are enlarged to the images."""
    run = make_run("tiny_bcos", objective={"attribution": {"method": "bcos", "depth": "mid1"}})
    done = export(run, "torch.export", tmp_path / "net.pt2", maps=True)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits, maps = torch.export.load(str(done.file)).module()(images)
    request = Request("bcos", "mid1", torch.arange(3), one_hot(logits.argmax(1), 4))
    raw = explain(run.model, ENCODINGS["inverse"].encode(images), request).maps.detach()
    enlarged = torch.nn.functional.interpolate(raw[:, None], (32, 32), mode="bilinear")[:, 0]
    assert close(maps, enlarged)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(9, 3, 2, 1), (8, 3, 2, 1), (8, 2, 2, 0), (7, 3, 1, 0)]
)
def test_adjoint_of_average_pooling(size: int, kernel: int, stride: int, padding: int) -> None:
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    grad = torch.rand_like(torch.nn.functional.avg_pool2d(x, kernel, stride, padding))
    sides = ([kernel] * 2, [stride] * 2, [padding] * 2, False, True, None)
    expected = torch.ops.aten.avg_pool2d_backward(grad, x, *sides)
    torch.testing.assert_close(average_pool_adjoint(grad, x, *sides), expected)
