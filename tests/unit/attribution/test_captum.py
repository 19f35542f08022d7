"""Methods of one gradient, and integrated gradients, against captum, on nets as torchvision makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import Request, explain, method_of, one_hot
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import RESNET_STAGES
from tests.unit.attribution.guided_backprop.nets import convnext
from tests.unit.attribution.lrp.nets import alive, small_resnet, torchvision_densenet

captum = pytest.importorskip("captum.attr")

NETS: dict[str, tuple[Callable[[], Classifier], str]] = {  # and the layer whose output is depth "final"
    "resnet": (lambda: Classifier(alive(small_resnet()), RESNET_STAGES).eval(), "layer4"),
    "densenet": (torchvision_densenet, "relu"),
    "convnext": (convnext, "features.7"),
}
ROWS, TARGET = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2])


@pytest.mark.parametrize("name", NETS)
def test_equals_captum(name: str) -> None:
    build, layer = NETS[name]
    model, x = build(), torch.randn(2, 3, 64, 64, dtype=torch.float64)

    class Logits(nn.Module):
        """By its stages: the ReLU behind the last norm is a layer there, and a function in the net's own forward."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return model(x).logits

    def ours(method: str, depth: str = "input", **options: int) -> Tensor:
        chosen = method_of(method).bind(options)
        return explain(model, x, Request(chosen, depth, ROWS, one_hot(TARGET, 4))).maps

    net = Logits() if name == "densenet" else model.net
    leaf = x[ROWS].requires_grad_()
    gradient = captum.Saliency(net).attribute(leaf, target=TARGET, abs=False).sum(1)
    torch.testing.assert_close(ours("gradient"), gradient)
    torch.testing.assert_close(ours("ixg"), captum.InputXGradient(net).attribute(leaf, target=TARGET).sum(1))
    path = captum.IntegratedGradients(net).attribute(leaf, target=TARGET, n_steps=4, method="riemann_middle")
    torch.testing.assert_close(ours("intgrad", steps=4), path.sum(1))
    cam = captum.LayerGradCam(net, model.net.get_submodule(layer))
    theirs = cam.attribute(leaf, target=TARGET, relu_attributions=True)
    torch.testing.assert_close(ours("gradcam", "final"), theirs[:, 0])
