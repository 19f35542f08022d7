"""Guided training of B-cos nets in several processes equals that in one, by pullback and by double backward."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance import distributed
from guidance.attribution import Method, Request
from guidance.attribution.gradient import bcos
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.layers.normalization import convert_batchnorm
from guidance.types import Batch, Regions
from tests.support import objectives as make
from tests.support.processes import run_processes
from tests.support.small_nets import CLASSES, build

SCENARIOS = [
    ("bcos_resnet", "sync", "input", "some"),
    ("bcos_resnet", "frozen", "mid2", "one"),
    ("bcos_vitc", "sync", "mid2", "one"),
    ("bcos_vitc", "frozen", "input", "some"),
]


def train_share(scenario: tuple[str, str, str, str], pullbacks: bool) -> dict[str, Any]:
    """Three steps on this process's share of 6 images: the losses, and the weights after them."""
    name, batchnorm, depth, annotated = scenario
    model, images = build(name, batch=6)
    convert_batchnorm(model.net, batchnorm)
    image = torch.tensor({"some": [0, 1, 4, 4], "one": [5]}[annotated])
    mask = torch.zeros(len(image), *images.shape[-2:], dtype=torch.bool)
    mask[:, 2:7, 3:9] = True
    regions = Regions(image, (image + 1) % CLASSES, mask, None, 2 if annotated == "some" else 1)
    targets = torch.nn.functional.one_hot(torch.arange(6) % CLASSES, CLASSES).double()
    index = torch.arange(6)
    whole = Batch(images, targets, regions, torch.full((6,), -1), index)
    batch = whole.chunk(distributed.world_size())[distributed.rank()]
    method = "bcos" if pullbacks else Method(_by_double_backward)
    objective = make.guided(model, localization=LOCALIZATION_LOSSES["energy"].function, weight=0.1, attribution=method,
                                     depth=depth).train()  # fmt: skip
    ddp = distributed.parallel(objective, torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(3):
        step = ddp(batch, objective.counts(batch))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append({k: float(distributed.mean(v.double())) for k, v in step.terms.items()})
    return {"losses": losses, "weights": copy.deepcopy(model.state_dict())}


def _by_double_backward(model: Any, request: Request) -> Tensor:
    return bcos(model, replace(request, out=request.out._replace(pullbacks={})))


def everything() -> list[dict[str, Any]]:
    return [train_share(scenario, pullbacks) for scenario in SCENARIOS for pullbacks in (True, False)]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """With statistics of all processes and with frozen ones, by pullback and by double backward; unequal shares annotated."""
    alone = run_processes(1, tmp_path / "1", everything)[0]
    for process in run_processes(2, tmp_path / "2", everything):
        for expected, found in zip(alone, process, strict=True):
            for one, two in zip(expected["losses"], found["losses"], strict=True):
                assert two == pytest.approx(one, rel=1e-9, abs=1e-12)
            for key, value in expected["weights"].items():
                torch.testing.assert_close(found["weights"][key], value, rtol=1e-8, atol=1e-11, msg=key)
    for by_pullback, by_double_backward in zip(alone[::2], alone[1::2], strict=True):
        for key, value in by_pullback["weights"].items():
            torch.testing.assert_close(by_double_backward["weights"][key], value, rtol=1e-8, atol=1e-11, msg=key)


def said_of_one_pixel_filters() -> list[str]:
    """While gradients of those with a stride, of features that lie channels last, are added over processes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ddp = distributed.parallel(nn.Conv2d(4, 6, 1, stride=2), torch.device("cpu"))
        for _ in range(2):
            ddp(torch.rand(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)).sum().backward()
    return [str(warning.message) for warning in said]


def test_layouts_that_are_the_same_in_memory_warn_of_nothing(tmp_path: Path) -> None:
    assert run_processes(2, tmp_path, said_of_one_pixel_filters) == [[], []]
