"""X-DNN: nonnegatively homogeneous, so that input times gradient is integrated gradients."""

from __future__ import annotations

import pytest
import torch

from guidance.attribution import ATTRIBUTIONS
from guidance.models import build_model
from tests.support.explaining import attribute
from tests.support.small_nets import build

PAIR = (torch.tensor([0, 1, 1]), torch.tensor([1, 0, 3]))


@pytest.mark.parametrize("name", ["xdnn", "xdnn_bottleneck"])
def test_logits_scale_with_the_image(name: str) -> None:
    model, images = build(name)
    torch.testing.assert_close(model(2.5 * images).logits, 2.5 * model(images).logits)
    assert model.homogeneous


@pytest.mark.parametrize("depth", ["input", "mid1", "mid2", "mid3", "final"])
@pytest.mark.parametrize("name", ["xdnn", "xdnn_bottleneck"])
def test_integrated_gradients_in_closed_form_equal_quadrature_and_sum_to_the_logit(name: str, depth: str) -> None:
    model, images = build(name)
    out = model(images.requires_grad_())
    closed = attribute("intgrad", model, out, depth, *PAIR, create_graph=False)
    model.homogeneous = False
    quadrature = attribute(ATTRIBUTIONS["intgrad"].bind({"steps": 7}), model, out, depth, *PAIR, create_graph=False)
    torch.testing.assert_close(closed, quadrature, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(closed.sum((1, 2)), out.logits[PAIR].detach())


def test_other_nets_get_the_quadrature() -> None:
    for name in ("relu_resnet", "bcos_resnet"):
        model, images = build(name)
        model.eval()
        assert not model.homogeneous
        out = model(images.requires_grad_())
        maps = [
            attribute(ATTRIBUTIONS["intgrad"].bind({"steps": steps}), model, out, "input", *PAIR, create_graph=False)
            for steps in (1, 30)
        ]
        assert float((maps[0] - maps[1]).abs().max()) > 1e-6 * float(maps[1].abs().max())


def test_closed_form_takes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = build("xdnn")
    out = model(images.requires_grad_())
    monkeypatch.setattr(type(model), "upper", lambda *args: pytest.fail("a further pass through the net"))
    attribute(ATTRIBUTIONS["intgrad"], model, out, "input", *PAIR, create_graph=False)


def test_fresh_net_has_zero_logits_and_maps_and_learns() -> None:
    model = build_model("xdnn_resnet18", num_classes=3)
    images = torch.randn(2, 3, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    losses = []
    for step in range(6):
        out = model(images.requires_grad_())
        map_ = attribute("intgrad", model, out, "input", torch.tensor([0, 1]), torch.tensor([0, 2]), create_graph=True)
        if step == 0:
            assert not out.logits.any()
            assert not map_.any()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out.logits, targets) + 1e-4 * map_.relu().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_fixup_initialisation() -> None:
    net = build_model("xdnn_resnet50", num_classes=3).net
    block = net.get_submodule("layer2.1")
    assert not block.conv3.weight.any()  # type: ignore[union-attr]
    std = (2 / (128 * 9)) ** 0.5 * 16**-0.25
    assert float(block.conv2.weight.detach().std()) == pytest.approx(std, rel=0.02)  # type: ignore[union-attr, operator]
    shortcut = net.get_submodule("layer2.0.downsample").weight.detach()
    assert float(shortcut.std()) == pytest.approx((2 / 512) ** 0.5, rel=0.02)  # type: ignore[operator]
    basic = build_model("xdnn_resnet18", num_classes=3).net.get_submodule("layer3.1.conv1").weight.detach()
    assert float(basic.std()) == pytest.approx((2 / (256 * 9)) ** 0.5 * 8**-0.5, rel=0.02)  # type: ignore[operator]
