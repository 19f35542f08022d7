"""trainer.checkpoint_activations: the same weights after some steps, on one process and on two; settings that are refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from guidance import distributed
from guidance.assembly import build_trainer
from guidance.config import parse_config
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.layers.normalization import convert_batchnorm
from guidance.types import Batch, Regions
from tests.support import objectives as make
from tests.support.configs import DEMO
from tests.support.processes import run_processes
from tests.support.runs import CPU, Make, rows
from tests.support.small_nets import CLASSES, build

# net, batch norm, annotated images of six, of which each of two processes has three
SCENARIOS = [
    ("bcos_resnet", "local", [0, 1, 4]),
    ("bcos_resnet", "local", [5]),
    ("bcos_resnet", "frozen", [5]),
    ("bcos_resnet", "local", []),
    ("xdnn", "local", [0, 1, 2, 3, 4, 5]),
    ("relu_resnet", "frozen", [0, 1]),
    ("relu_resnet", "local", [0, 1]),  # by double backward
]


def weights_after_steps(name: str, batchnorm: str, annotated: list[int], checkpoint: bool) -> dict[str, Tensor]:
    """The weights and statistics after three steps on this process's share of six images."""
    model, images = build(name, batch=6)
    convert_batchnorm(model.net, batchnorm)
    model.double().checkpoint_activations = checkpoint
    image = torch.tensor(annotated, dtype=torch.long)
    mask = torch.zeros(len(image), *images.shape[-2:], dtype=torch.bool)
    mask[:, 2:7, 3:9] = True
    regions = Regions(image, (image + 1) % CLASSES, mask, None, min(1, len(image)))
    targets = nn.functional.one_hot(torch.arange(6) % CLASSES, CLASSES).double()
    index = torch.arange(6)
    whole = Batch(images, targets, regions, torch.full((6,), -1), index)
    batch = whole.chunk(distributed.world_size())[distributed.rank()]
    objective = make.guided(model, localization=LOCALIZATION_LOSSES["energy"].function, weight=0.1).train()
    ddp = distributed.parallel(objective, CPU)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        ddp(batch, objective.counts(batch)).loss.backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict())


def everything() -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    return [(weights_after_steps(*s, checkpoint=True), weights_after_steps(*s, checkpoint=False)) for s in SCENARIOS]


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_steps_change_the_weights_as_without_it(tmp_path: Path, processes: int) -> None:
    """Also where one of two processes has no annotated image."""
    for process in run_processes(processes, tmp_path, everything):
        for scenario, (found, expected) in zip(SCENARIOS, process, strict=True):
            for key, value in expected.items():
                torch.testing.assert_close(found[key], value, rtol=1e-11, atol=1e-13, msg=f"{scenario}: {key}")


@pytest.mark.usefixtures("tiny")
def test_a_run_takes_it_from_its_config_and_may_change_it_on_resume(settings: Make, tmp_path: Path) -> None:
    losses = []
    for checkpoint in (False, True):
        config = settings(trainer={"epochs": 1, "checkpoint_activations": checkpoint})
        trainer = build_trainer(config, tmp_path / str(checkpoint), CPU)
        assert trainer.objective.model.checkpoint_activations is checkpoint
        trainer.fit()
        losses.append([row["step/localization"] for row in rows(tmp_path / str(checkpoint)) if "step/lr" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    other = settings(trainer={"epochs": 1, "checkpoint_activations": True})
    assert build_trainer(other, tmp_path / "False", CPU, resume=True).objective.model.checkpoint_activations


def test_statistics_of_all_processes_are_refused() -> None:
    settings = {"trainer": {"checkpoint_activations": True}, "model": {"name": "resnet18", "batchnorm": "sync"}}
    with pytest.raises(
        ValueError, match=r"trainer.checkpoint_activations: with model.batchnorm: sync .* use frozen or local"
    ):
        parse_config(DEMO | settings)


def test_fp16_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match=r"trainer.precision: fp16 is not offered: .* Use bf16"):
        parse_config(DEMO | {"trainer": {"precision": "fp16"}})
    with pytest.raises(ValueError, match=r"trainer.precision: Input should be 'fp32' or 'bf16'"):
        parse_config(DEMO | {"trainer": {"precision": "fp8"}})


def test_processes_wait_for_each_other_as_long_as_the_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda backend, timeout: waits.append(timeout))
    for minutes in (30, 0.5):
        with distributed.process_group("cpu", minutes=minutes) as device:
            assert device == CPU
    with distributed.process_group("cpu"):
        pass
    assert [wait.total_seconds() for wait in waits] == [1800, 30, 1800]
    assert parse_config(DEMO).trainer.timeout_minutes == 30
