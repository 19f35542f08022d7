"""Nets and depths that cannot be wrapped, and layers that look like others: what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import Request, explain, one_hot
from guidance.models import wrap
from tests.unit.models.wrapping.steps import check_gradients, wrapped
from tests.unit.models.wrapping.test_wrap import Own, images


class NormWithReLU(nn.BatchNorm2d):
    """As timm's nets have it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_norms_with_a_forward_of_their_own_stay() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), NormWithReLU(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    model = wrapped(net, images(), {"mid": "0", "final": "1"})
    assert type(net[1]) is NormWithReLU
    assert set(model(images()).pullbacks) == {"final"}
    check_gradients(model, images(), "input")
    with pytest.raises(ValueError, match=r"the norm '1' is a NormWithReLU, .* cannot be made 'frozen'; replace it"):
        wrap(net, example=images(), batchnorm="frozen")
    request = Request("lrp", "input", torch.arange(2), one_hot(torch.arange(2), 3))
    pytest.importorskip("zennit")
    with pytest.raises(ValueError, match=r"LRP has no rule for 1 \(NormWithReLU\)"):
        explain(model, images(), request)


class WithLogits(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.conv, self.output = nn.Conv2d(3, 3, 3), output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.conv(x))


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ({"final": "convv"}, r"names 'convv', but the net has no such layer\. Did you mean 'conv'\?"),
        ({"input": "conv"}, "'input' is there by itself; give 'conv' another name"),
        ({"final": "unused"}, "names the layer 'unused', which the forward of the net does not call"),
        ({"a": "conv", "b": "same"}, "the depths 'a' and 'b' are the same place in the net"),
        (
            {"final": "fc"},
            r"the layer 'fc' of the depth 'final' returns a tensor \[2, 3\], which is no grid of cells: .* pooling",
        ),
        ({}, "`depths` is empty"),
    ],
)
def test_mistakes_in_depths(depths: dict[str, str], message: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.unused = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.ReLU()
            self.same = self.conv

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean((2, 3)))

    with pytest.raises(ValueError, match=message):
        wrap(Net(), depths, example=images().float())


def test_mistakes_in_nets() -> None:
    example = images().float()
    with pytest.raises(ValueError, match=r"returned a tensor \[2, 3, 10, 10\] .*; expected logits \[B, K\]"):
        wrap(WithLogits(lambda x: x), example=example)
    with pytest.raises(ValueError, match="returned a tuple"):
        wrap(WithLogits(lambda x: (x, x)), example=example)
    with pytest.raises(
        ValueError, match=r"cannot be run on images \[2, 3, 224, 224\] \(RuntimeError: .*Give `example`"
    ):
        wrap(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(5, 2)))
    with pytest.raises(ValueError, match="expected a net"):
        wrap("resnet50")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this net has depths already"):
        wrap(wrap(Own(), example=example))
    with pytest.raises(ValueError, match="returns other logits when it is run again"):
        wrap(WithLogits(lambda x: torch.rand_like(x).mean((2, 3))), example=example)
    with pytest.raises(ValueError, match="no layer of this net returns a grid"):
        wrap(nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), example=example)


def test_a_subclass_with_another_forward_has_no_pullback() -> None:
    """Its rule would be that of another layer."""

    class Louder(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).square()

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Louder(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrapped(net.double(), images(), {"mid": "0", "final": "1"})
    assert set(model(images()).pullbacks) == {"final"}
    assert not model.layerwise_evaluation
    check_gradients(model, images(), "input")


def test_a_net_that_writes_into_its_images_gets_a_copy() -> None:
    net = WithLogits(lambda x: x.mean((2, 3)))
    net.conv = nn.Sequential(Halved(), net.conv)
    x = images().float()
    model = wrap(net, {"final": "conv.1"}, example=x.clone()).eval()
    before = x.clone()
    out = model(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(out.logits, net(x.clone()))


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)
