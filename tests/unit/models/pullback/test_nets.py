"""Pullbacks of nets against explicit matrices, against autograd's double backward, and against finite differences."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from guidance.models import BACKBONES, build_model
from guidance.models.classifier import Classifier
from guidance.models.pullback.dynamic import linearized
from guidance.types import Forward
from tests.reference.bcos import net_matrices
from tests.support.explaining import attribute
from tests.support.small_nets import CLASSES, DEPTHS, NETS, build
from tests.unit.models.pullback.layers import check_gradient

# Modes in which each family offers a pullback: in training, B-cos norms take batch statistics.
MODES = [(name, training) for name in NETS for training in (False, True)]


def map_by_autograd(out: Forward, depth: str, image: Tensor, target: Tensor) -> Tensor:
    """[M, C, h, w], one pair at a time, by autograd in linearized mode."""
    maps = []
    for i, k in zip(image, target, strict=True):
        with linearized():
            (g,) = torch.autograd.grad(out.logits[i, k], out.features[depth], create_graph=True)
        maps.append(g[i])
    return torch.stack(maps)


def layers_above(model: Classifier, depth: str) -> list[nn.Module]:
    stages = list(model.stages.items())[model.depths.index(depth) :]
    return [layer for _, names in stages for layer in model._modules_of(names)]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "training"), MODES)
def test_net_pullback_is_the_explicitly_built_map_at_every_depth(name: str, training: bool) -> None:
    model, images = build(name, batch=2)
    model.train(training)
    out = model(images.requires_grad_())
    for depth in DEPTHS if not name.startswith("bcos_dense") else DEPTHS[1:]:
        product, logits = net_matrices(layers_above(model, depth), out.features[depth].detach())
        if name != "relu_resnet":  # it has biases
            torch.testing.assert_close(logits, out.logits.detach())
        image, target = torch.tensor([1, 0, 1]), torch.tensor([0, 2, 3])
        selected = torch.eye(CLASSES, dtype=torch.float64)[target]
        map_ = out.pullbacks[depth](selected, image)
        torch.testing.assert_close(map_.flatten(1), product[image, target])


@pytest.mark.parametrize("depth", [
    pytest.param(depth, marks=[pytest.mark.long] if depth in ("mid1", "mid3") else []) for depth in DEPTHS
])  # fmt: skip
@pytest.mark.parametrize(("name", "training"), MODES)
def test_pullback_equals_double_backward_in_map_and_parameter_gradients(name: str, training: bool, depth: str) -> None:
    model, images = build(name)
    model.train(training)
    image, target = torch.tensor([2, 0, 2]), torch.tensor([1, 3, 0])
    results = []
    for by_pullback in (True, False):
        model.zero_grad()
        out = model(images.clone().requires_grad_())
        if by_pullback:
            map_ = attribute("ixg", model, out, depth, image, target, create_graph=True)
        else:
            assert depth in out.pullbacks
            plain = out._replace(pullbacks={})
            map_ = attribute("ixg", model, plain, depth, image, target, create_graph=True)
            single = (map_by_autograd(out, depth, image, target) * out.features[depth][image]).sum(1)
            torch.testing.assert_close(map_, single)
        (map_.relu().pow(2).sum() + map_.sum() + out.logits.sigmoid().sum()).backward()
        results.append((map_.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (map_1, gradients_1), (map_2, gradients_2) = results
    torch.testing.assert_close(map_1, map_2, rtol=1e-6, atol=1e-12)
    assert gradients_1.keys() == gradients_2.keys() == {n for n, _ in model.named_parameters()}
    for key, value in gradients_1.items():
        torch.testing.assert_close(value, gradients_2[key], rtol=1e-5, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("by_pullback", [True, False])
def test_loss_on_the_map_of_a_net_has_the_gradient_of_finite_differences(name: str, by_pullback: bool) -> None:
    model, images = build(name, batch=2)
    model.train()
    image, target = torch.tensor([1, 0]), torch.tensor([1, 3])

    def loss() -> Tensor:
        out = model(images.requires_grad_())
        out = out if by_pullback else out._replace(pullbacks={})
        map_ = attribute("ixg", model, out, "input", image, target, create_graph=True)
        return map_.pow(2).sum() + map_.flatten(1)[:, :5].sum()

    check_gradient(loss, list(model.parameters()), step=1e-7, tolerance=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [n for n in BACKBONES if n.startswith(("bcos", "xdnn"))])
def test_every_full_size_net_agrees_with_double_backward(name: str, training: bool) -> None:
    """Maps and the parameter gradients of a loss on them, at each depth, in float64, of two of three images."""
    backbone = BACKBONES[name]
    model = build_model(name, num_classes=4).double().train(training)
    for parameter in model.parameters():  # fresh, an X-DNN is zero
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5) if parameter.dim() > 1 else None
    size = 32 if name.startswith("xdnn") or "resnet" in name else 2 * backbone.stride
    images = torch.rand(3, 3, size, size, dtype=torch.float64)
    images = torch.cat((images, 1 - images), 1) if backbone.encoding == "inverse" else images
    image, target = torch.tensor([2, 0]), torch.tensor([1, 3])
    state = copy.deepcopy(model.state_dict())
    for depth in model.depths:
        results = []
        for way in ("pullback", "double backward"):
            model.load_state_dict(state)
            model.zero_grad()
            out = model(images.clone().requires_grad_())
            assert depth in out.pullbacks
            out = out if way == "pullback" else out._replace(pullbacks={})
            maps = attribute("bcos", model, out, depth, image, target, create_graph=True, rounds=1)
            (maps.square().sum() / maps.detach().square().sum()).backward()
            results.append((maps.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        (maps, gradients), (expected, expected_gradients) = results
        assert float((maps - expected).abs().max() / expected.abs().max()) < 1e-6
        assert len(gradients) == len(expected_gradients)
        scale = max(float(g.abs().max()) for g in expected_gradients)
        for gradient, reference in zip(gradients, expected_gradients, strict=True):
            assert float((gradient - reference).abs().max()) < 1e-5 * scale
