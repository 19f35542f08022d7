"""The linearised mode: which nets need it, what it leaves alone, and that it ends."""

from __future__ import annotations

import pytest
import torch

from guidance.models.pullback.dynamic import _Mode, linearized
from tests.support.explaining import attribute
from tests.support.small_nets import BCOS, build


@pytest.mark.parametrize("training", [False, True])
def test_gradcam_of_a_dynamic_net_is_not_linearized(training: bool) -> None:
    model, images = build("bcos_resnet")
    model.train(training)
    out = model(images.requires_grad_())
    image, target = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])
    cam = attribute("gradcam", model, out, "final", image, target, create_graph=False)
    (g,) = torch.autograd.grad(out.logits[image, target].sum(), out.features["final"])
    expected = (g.mean((2, 3), keepdim=True) * out.features["final"]).sum(1).relu()
    torch.testing.assert_close(cam, expected.detach())


@pytest.mark.parametrize("name", ["bcos_resnet", "bcos_vitc"])
def test_mode_is_restored_after_an_exception(name: str) -> None:
    model, images = build(name)
    out = model(images.requires_grad_())._replace(pullbacks={})
    arguments = (model, out, "input", torch.tensor([0]), torch.tensor([1]))
    before = attribute("bcos", *arguments, create_graph=True)
    hook = out.features["mid2"].register_hook(lambda grad: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attribute("bcos", *arguments, create_graph=True)
    hook.remove()
    (plain,) = torch.autograd.grad(out.logits[0, 1], out.features["input"], retain_graph=True)
    assert (plain[0] * images[0]).sum(0).sub(before[0]).abs().max() > 1e-3 * before.abs().max()
    torch.testing.assert_close(attribute("bcos", *arguments, create_graph=True), before)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_mode_nests() -> None:
    with linearized():
        with linearized():
            assert _Mode.linearized
        assert _Mode.linearized
    assert not _Mode.linearized


def test_bcos_names_are_all_dynamic() -> None:
    assert all(build(name)[0].dynamic for name in BCOS)
    assert not build("xdnn")[0].dynamic
