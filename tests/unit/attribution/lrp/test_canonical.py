"""The canonical form computes what the net computes, and the net is left as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from guidance.attribution import Request, explain, one_hot
from guidance.attribution.lrp import propagation
from guidance.attribution.lrp.canonical import ChannelThreshold
from guidance.attribution.lrp.propagation import canonical_net
from guidance.models.aim import AIMForm, build_aim
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import RESNET_STAGES
from guidance.models.layers.normalization import convert_batchnorm
from tests.support.nets import tiny
from tests.unit.attribution.lrp.nets import (
    alive,
    dense,
    images_of,
    relevance,
    residual,
    small_resnet,
    torchvision_densenet,
)
from tests.unit.attribution.test_left_behind import state

pytest.importorskip("zennit")

NETS: dict[str, Callable[[], Classifier]] = {
    "residual": residual,
    "dense": dense,
    "densenet": torchvision_densenet,
    "resnet": lambda: Classifier(alive(small_resnet()), RESNET_STAGES).eval(),
    "frozen": lambda: Classifier(alive(convert_batchnorm(small_resnet(), "frozen")), RESNET_STAGES).eval(),
}


@pytest.mark.parametrize("name", NETS)
def test_it_computes_the_same_from_every_depth(name: str) -> None:
    model = NETS[name]()
    x = images_of(name)
    with torch.no_grad():
        out = model(x)
        for depth in model.depths:
            net = canonical_net(model, depth)
            torch.testing.assert_close(net(out.features[depth]), out.logits, rtol=1e-9, atol=1e-9)
            assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert any(isinstance(module, ChannelThreshold) for module in canonical_net(model, "input").modules()) == (
        "dense" in name
    )


def test_channels_whose_norm_has_no_scale_are_constant() -> None:
    model, x = dense(), torch.randn(1, 2, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        model.net[2].weight[:3] = 0.0
        model.net[2].bias[:3] = torch.tensor([1.0, -1.0, 0.0])
        model.net[2].weight[3] = 1e-320  # so small that the level of its threshold is out of range
        model.net[2].bias[3] = 0.5
        torch.testing.assert_close(canonical_net(model, "input")(x), model(x).logits)
    assert relevance(model, x, "input", "epsilon", 0).isfinite().all()


@pytest.mark.parametrize("failing", [False, True])
def test_the_net_is_left_as_it_was_also_after_an_exception(failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered on it, nor changed in it, in whatever modes it is."""
    model = torchvision_densenet().train()
    model.net.features.denseblock2.eval()
    before, x = state(model), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    request = Request("lrp", "mid1", torch.tensor([0]), one_hot(torch.tensor([1]), 4))
    composites = []

    def noted(*given: object) -> object:
        composites.append(build(*given))  # type: ignore[arg-type]
        return composites[-1]

    build = propagation.build_composite
    monkeypatch.setattr(propagation, "build_composite", noted)
    if failing:
        monkeypatch.setattr(torch.autograd, "grad", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explain(model, x, request)
    else:
        explain(model, x, request)
    assert state(model) == before
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert not composites[0].handles


def test_nets_without_a_canonical_form_are_refused_with_the_reason() -> None:
    plain = tiny(activation="relu", channels=3, num_classes=4)
    with pytest.raises(ValueError, match=r"no rule for global_average \(function\); it explains nets of convolutions"):
        canonical_net(plain, "input")
    with pytest.raises(
        ValueError, match=r"no rule for stage1.1 \(Softplus\), stage2.1 \(Softplus\), stage3.1 \(Softplus\) and 1 more"
    ):
        canonical_net(tiny(), "input")
    aim = build_aim(plain, (3, 4, 3), first_stage=1, stop_stage=2, num_classes=4, form=AIMForm(width=6, mask_width=4))
    with pytest.raises(ValueError, match="AIM masks the features between the stages of its net"):
        canonical_net(aim, "input")
    bad = {
        "padded or grouped": nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1)),
        "neither behind a linear layer nor in front of a ReLU": nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3)),
        "a MaxPool2d stands between": nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 1)),
        "no linear layer follows": nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), nn.ReLU()),
        "it has no running statistics": nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
    }
    for reason, net in bad.items():
        with pytest.raises(ValueError, match=f"LRP cannot merge a batch norm of this net: .*{reason}"):
            canonical_net(Classifier(net, {"logits": list(map(str, range(len(net))))}), "input")
