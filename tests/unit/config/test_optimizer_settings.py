"""Optimizers, their learning rates and schedules, from the config."""

from __future__ import annotations

import copy

import pytest
import torch

from guidance.assembly import build_classifier, build_optimizer, learning_rate_factor, parameter_groups
from guidance.config import parse_config
from tests.support.configs import DEMO


def test_two_learning_rates() -> None:
    """The backbone is what pretrained weights fill; the rest learns at `lr`."""
    text = DEMO | {"model": {"name": "resnet18"}, "optimizer": {"lr": 0.5, "backbone_lr": 0.25}}
    for change, rest in (
        ({}, {"fc.weight", "fc.bias"}),
        (
            {
                "objective": {"mode": "aim", "classification": "cross_entropy"},
                "aim": {"masking": "bottom_up", "stop_stage": 4},
            },
            None,
        ),
    ):
        config = parse_config(text | change)
        model = build_classifier(config, 3, pretrained=False)
        first, backbone = parameter_groups(config, model)
        names = {id(p): name for name, p in model.net.named_parameters()}
        found = {names[id(p)] for p in first["params"]}
        if rest is None:
            head = {"backbone.fc.weight", "backbone.fc.bias"} & set(names.values())
            rest = {name for name in names.values() if not name.startswith("backbone.")} | head
        assert found == rest
        assert {names[id(p)] for p in backbone["params"]} == set(names.values()) - rest
        optimizer, _ = build_optimizer(config, [first, backbone], 3)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    config = parse_config(DEMO)
    assert len(parameter_groups(config, build_classifier(config, 3, pretrained=False))) == 1


def test_learning_rate_factor() -> None:
    def rates(name: str, warmup: int = 0) -> list[float]:
        return [
            learning_rate_factor(s, name=name, warmup=warmup, total=10, period=4, gamma=0.1) for s in range(11)
        ]  # fmt: skip

    assert rates("constant") == [1.0] * 11
    assert rates("constant", 2)[:3] == pytest.approx([0.01, 0.505, 1.0])
    assert rates("step") == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 3)
    cosine = rates("cosine")
    assert (cosine[0], cosine[5], cosine[10]) == pytest.approx((1.0, 0.5, 0.0))
    assert sorted(cosine, reverse=True) == cosine


def test_optimizers_get_their_settings() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        config = parse_config(DEMO | {"optimizer": {"name": name, "lr": 0.5, "weight_decay": 0.25, "momentum": 0.75}})
        optimizer, _ = build_optimizer(config, parameters, 3)
        assert type(optimizer) is kind
        group = optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
        assert group.get("momentum", 0.75) == 0.75


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_fused_update_is_the_plain_one_which_older_runs_go_on_with(name: str) -> None:
    """In float64; `late` takes over the state of the plain optimizer on the way, as a resumed run does."""
    settings = {"lr": 0.01, "weight_decay": 0.1}
    config = parse_config(DEMO | {"optimizer": {"name": name, "momentum": 0.9, **settings}})
    start = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    plain, fused, resumed = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(3))
    ours, late = build_optimizer(config, fused, 3)[0], build_optimizer(config, resumed, 3)[0]
    assert all(group["fused"] for group in ours.param_groups)
    settings |= {"momentum": 0.9} if name == "sgd" else {}
    reference: torch.optim.Optimizer = type(ours)(plain, **settings, foreach=False)  # type: ignore[call-arg]
    for step in range(6):
        if step == 3:
            with torch.no_grad():
                for x, y in zip(resumed, plain, strict=True):
                    x.copy_(y)
            late.load_state_dict(copy.deepcopy(reference.state_dict()))
        gradients = [torch.randn_like(x) for x in start]
        for parameters, optimizer in ((plain, reference), (fused, ours), *([(resumed, late)] if step >= 3 else [])):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for x, y, z in zip(plain, fused, resumed, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-14)
        assert torch.equal(z, x)
