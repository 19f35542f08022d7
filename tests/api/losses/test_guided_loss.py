"""The loss for loops of one's own is the trainer's, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance import AIMLoss, GuidedLoss, distributed
from guidance.losses import LOCALIZATION_LOSSES
from guidance.objectives import Classification, Masking
from tests.api.losses.steps import as_batch, gradients, net, plain, trainer_step
from tests.support import objectives as make
from tests.support.nets import tiny_aim
from tests.support.processes import run_processes
from tests.support.runs import assert_same
from tests.support.small_nets import CLASSES

NETS = ("xdnn", "bcos_resnet", "bcos_vitc", "relu_resnet", "batchnorm local", "batchnorm frozen", "batchnorm sync")
GUIDED: dict[str, Any] = {"weight": 0.3, "reduction": "mean", "attribution": "ixg", "depth": "input"}


def trained(model: Any, images: Tensor, loss: str = "energy", precision: str = "fp32", **settings: Any) -> Any:
    objective = make.guided(model, localization=LOCALIZATION_LOSSES[loss].function, **(GUIDED | settings))
    steps = trainer_step(objective, as_batch(images), precision=precision)
    return objective, steps[0]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_the_trainers(name: str, dtype: torch.dtype) -> None:
    model, images = net(name, dtype)
    objective, step = trained(copy.deepcopy(model), images)
    guided = GuidedLoss(model, **GUIDED)
    found = guided(*plain(images))
    found.loss.backward()
    assert torch.equal(found.loss, step.loss)
    assert_same(dict(found.terms), dict(step.terms))
    assert {"classification", "localization"} <= found.terms.keys()
    assert torch.equal(found.logits, step.logits)
    assert not found.logits.requires_grad
    assert_same(dict(gradients(guided.model)), dict(gradients(objective.model)))
    assert len(gradients(model)) == len(list(model.parameters()))
    assert_same(dict(model.named_buffers()), dict(objective.model.named_buffers()))  # running statistics
    assert model.training


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "l1", "reduction": "sum"},
        {"loss": "rrr", "attribution": "gradcam", "depth": "final"},
        {"loss": "ppce", "attribution": "intgrad", "depth": "mid1", "classification": "cross_entropy"},
        {"weight": 0.0},
    ],
)
def test_other_settings(settings: dict[str, Any]) -> None:
    model, images = net("batchnorm local")
    objective, step = trained(copy.deepcopy(model), images, **settings)
    guided = GuidedLoss(model, **(GUIDED | settings))
    found = guided(*plain(images))
    found.loss.backward()
    assert torch.equal(found.loss, step.loss)
    assert_same(dict(gradients(guided.model)), dict(gradients(objective.model)))


def test_class_weights_and_label_smoothing() -> None:
    model, images = net("batchnorm frozen")
    weights = torch.tensor([1.0, 0.5, 0.25, 2.0], dtype=torch.float64)
    more = {"class_weights": weights, "label_smoothing": 0.1}
    _, step = trained(copy.deepcopy(model), images, classification="cross_entropy", **more)
    loss = Classification("cross_entropy", weights, label_smoothing=0.1)
    assert torch.equal(GuidedLoss(model, **GUIDED, classification=loss)(*plain(images)).loss, step.loss)


@pytest.mark.parametrize("name", ["xdnn", "bcos_resnet", "batchnorm local"])
def test_bf16_is_the_trainers(name: str) -> None:
    """Autocast keeps casted weights; asking the net for its number of classes must not leave some without a graph."""
    model, images = net(name, torch.float32)
    objective, step = trained(copy.deepcopy(model), images, precision="bf16")
    guided = GuidedLoss(model, **GUIDED)
    with torch.autocast("cpu", torch.bfloat16):
        found = guided(*plain(images))
    found.loss.backward()
    assert torch.equal(found.loss, step.loss)
    assert found.loss.dtype == torch.float32
    assert_same(dict(gradients(guided.model)), dict(gradients(objective.model)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_micro_batches_add_up(reduction: str) -> None:
    """Of three, one and no annotated images; in evaluation mode, where no statistic links images."""
    model, images = net("batchnorm local")
    batch, guided = plain(images), GuidedLoss(model.eval(), **(GUIDED | {"reduction": reduction}))
    guided(*batch).loss.backward()
    whole = gradients(guided)
    guided.zero_grad()
    counts = guided.counts(batch.targets, batch.boxes)
    assert (counts.images, counts.regions, counts.rounds) == (4, 2, 1)
    losses = []
    for part in (slice(0, 1), slice(1, 2), slice(2, 4)):
        losses.append(guided(*(x[part] for x in batch), counts=counts).loss)
        losses[-1].backward()
    torch.testing.assert_close(sum(losses), guided(*batch).loss)
    torch.testing.assert_close(gradients(guided), whole)


def test_accumulation_is_the_trainers() -> None:
    model, images = net("xdnn")
    objective = make.guided(copy.deepcopy(model), localization=LOCALIZATION_LOSSES["energy"].function, **GUIDED)
    steps = trainer_step(objective, as_batch(images), accumulate=2)
    batch, guided = plain(images), GuidedLoss(model, **GUIDED)
    counts = guided.counts(batch.targets, batch.boxes)
    for part, step in zip((slice(0, 2), slice(2, 4)), steps, strict=True):
        found = guided(*(x[part] for x in batch), counts=counts)
        found.loss.backward()
        assert torch.equal(found.loss, step.loss)
    assert_same(dict(gradients(guided.model)), dict(gradients(objective.model)))


def test_nothing_annotated() -> None:
    model, images = net("batchnorm local")
    batch, guided = plain(images), GuidedLoss(model, **GUIDED)
    losses = [guided(images, batch.targets, boxes) for boxes in (None, [None] * 4, [torch.zeros(0, 4)] * 4)]
    empty = torch.zeros(4, 16, 16, dtype=torch.bool)
    losses.append(guided(images, batch.targets, masks=empty))
    losses.append(guided(images, batch.targets, masks=~empty, annotated=torch.zeros(4, dtype=torch.bool)))
    for found in losses:
        found.loss.backward()
        assert set(found.terms) == {"classification"}
        assert torch.equal(found.loss, losses[0].loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in guided.parameters())


def test_multi_label_targets() -> None:
    model, images = net("batchnorm frozen")
    targets = torch.eye(CLASSES)[[0, 2, 1, 3]]
    batch, guided = plain(images), GuidedLoss(model, **GUIDED)
    assert torch.equal(guided(images, targets, batch.boxes).loss, guided(*batch).loss)
    targets[0, 3] = 1
    place = batch.boxes[0]
    assert place is not None
    found = guided(images, targets, [{0: place, 3: place + 1}, None, None, None])
    assert guided.counts(targets, [{0: place, 3: place + 1}, None, None, None])[1:] == (2, 2, 2)
    each = [
        guided(images, targets, [{k: p}, None, None, None]).terms["localization"]
        for k, p in ((0, place), (3, place + 1))
    ]
    torch.testing.assert_close(found.terms["localization"], (each[0] + each[1]) / 2)


def test_what_does_not_fit() -> None:
    model, images = net("batchnorm frozen")
    with pytest.raises(ValueError, match=r"unknown localisation loss 'enrgy'.*Did you mean 'energy'"):
        GuidedLoss(model, "enrgy", weight=1.0)
    with pytest.raises(ValueError, match="no depth 'mid9'; it has input, mid1, final"):
        GuidedLoss(model, weight=1.0, depth="mid9")
    with pytest.raises(ValueError, match="a Linear cannot be explained as it is"):
        GuidedLoss(nn.Linear(1, 1), weight=1.0)  # type: ignore[arg-type]
    guided = GuidedLoss(model, weight=1.0)
    with pytest.raises(ValueError, match="the class 4, but the net has the classes 0 to 3"):
        guided(images, torch.tensor([0, 1, 2, 4]))
    with pytest.raises(ValueError, match=r"or \[B, 4\] with 1 for each class of an image; got \[4, 5\]"):
        guided(images, torch.zeros(4, 5))
    with pytest.raises(ValueError, match="a target for each"):
        guided(images, torch.tensor([0, 1]))


# --- processes --------------------------------------------------------------------------------------------------------


def steps_of_processes(micro: int) -> dict[str, Any]:
    """The gradient of a whole batch, of which each process has its share, in `micro` micro batches; of AIM as well."""
    torch.manual_seed(0)
    found = {}
    never: list[Any] = [None, None, None, torch.tensor([[2.0, 2.0, 9.0, 9.0]])]  # where evidence must not lie
    for name in ("xdnn", "batchnorm sync"):
        for reduction in ("sum", "mean"):
            model, images = net(name)
            batch, guided = plain(images), GuidedLoss(model, **(GUIDED | {"reduction": reduction}))
            size = len(images) // distributed.world_size()
            share = [x[distributed.rank() * size : (distributed.rank() + 1) * size] for x in (*batch, never)]
            ddp = distributed.parallel(guided, torch.device("cpu"))
            counts = guided.counts(share[1], share[2], never=share[3])
            for i in range(micro):
                part = slice(i * size // micro, (i + 1) * size // micro)
                given = {"counts": counts} if micro > 1 else {}
                with distributed.no_sync(ddp, active=i + 1 < micro):
                    ddp(*(x[part] for x in share[:3]), never=share[3][part], **given).loss.backward()
            found[f"{name} {reduction}"] = dict(gradients(guided))
    return found | {"aim": aim_of_processes(micro)}


def aim_of_processes(micro: int) -> dict[str, Tensor]:
    images, targets = torch.randn(4, 3, 12, 12, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    loss = AIMLoss(tiny_aim().train(), Masking(threshold=0.35, anneal_epochs=2))
    loss.begin_epoch(1)
    size = len(images) // distributed.world_size()
    share = torch.arange(distributed.rank() * size, (distributed.rank() + 1) * size)
    ddp, counts = distributed.parallel(loss, torch.device("cpu")), loss.counts(targets[share])
    for i, part in enumerate(share.chunk(micro)):
        with distributed.no_sync(ddp, active=i + 1 < micro):
            ddp(images[part], targets[part], part, counts=counts).loss.backward()
    return dict(gradients(loss))


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """With one annotated image on the first and two on the second; of an X-DNN and of AIM, also in micro batches."""
    alone = steps_of_processes(1)
    two = run_processes(2, tmp_path / "two", steps_of_processes, 1)
    parts = run_processes(2, tmp_path / "parts", steps_of_processes, 2)
    for process in two:
        torch.testing.assert_close(process, alone)
    for process in parts:
        for scenario in ("xdnn sum", "xdnn mean", "aim"):
            torch.testing.assert_close(process[scenario], alone[scenario])
    assert not torch.equal(
        alone["xdnn sum"]["objective.model.net.fc.weight"], alone["xdnn mean"]["objective.model.net.fc.weight"]
    )
