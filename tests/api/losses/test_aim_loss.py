"""The loss of AIM for loops of one's own is the trainer's, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from guidance import AIMLoss
from guidance.losses import energy
from guidance.objectives import Masking
from tests.api.losses.steps import as_batch, gradients, net, plain, trainer_step
from tests.support import objectives as make
from tests.support.nets import tiny_aim
from tests.support.runs import assert_same

MASKING: dict[str, Any] = {"threshold": 0.35, "anneal_epochs": 4, "seed": 7}
GUIDED: dict[str, Any] = {"weight": 0.3, "attribution": "gradcam", "depth": "final", "reduction": "mean"}


@pytest.mark.parametrize("settings", [{}, GUIDED, GUIDED | {"mask_weight": 0.5, "area_ratio": "batch"}])
@pytest.mark.parametrize("masking", ["top_down", "bottom_up"])
def test_a_step_is_the_trainers(settings: dict[str, Any], masking: str) -> None:
    """In the third epoch: masks are drawn, and the threshold is half-way down."""
    torch.manual_seed(0)
    model = tiny_aim(2, masking=masking, **({} if masking == "top_down" else {"classifier_dropout": 0.2})).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    batch, given, index = as_batch(images), plain(images), torch.tensor([70, 3, 12, 8])
    batch = batch._replace(targets=batch.targets[:, :3], index=index)
    objective = make.masking(copy.deepcopy(model), localization=energy, **(MASKING | settings))
    objective.begin_epoch(2)
    (step,) = trainer_step(objective, batch)
    own = {name: value for name, value in settings.items() if name in ("mask_weight", "area_ratio")}
    guided = {name: value for name, value in settings.items() if name not in own}
    loss = AIMLoss(model, Masking(**MASKING, **own), **guided)
    loss.begin_epoch(2)
    found = loss(given.images, batch.targets, index, given.boxes)
    found.loss.backward()
    assert torch.equal(found.loss, step.loss)
    assert torch.equal(found.logits, step.logits)
    assert_same(dict(found.terms), dict(step.terms))
    assert_same(dict(gradients(model)), dict(gradients(objective.model)))
    assert {"area", "threshold", "active/stage2"} <= found.terms.keys()
    assert ("localization" in found.terms) == bool(settings)
    assert not torch.equal(loss(given.images, batch.targets, index + 1, given.boxes).loss, step.loss)  # other draws


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"a Classifier does not mask its features: .*build_aim"):
        AIMLoss(net("xdnn")[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold is given for stage9, but the stages"):
        AIMLoss(tiny_aim(), Masking(threshold={"stage9": 0.5}))
    with pytest.raises(ValueError, match=r"index has the shape \[1\]; expected one number for each of 2 images"):
        AIMLoss(tiny_aim().float())(torch.rand(2, 3, 6, 6), torch.tensor([0, 1]), torch.tensor([0]))
