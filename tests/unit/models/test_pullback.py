"""Pullbacks against explicit matrices, against autograd's double backward, and against finite differences."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance.models import BACKBONES, build_model
from guidance.models.bcos.modules import BcosConv2d, BcosLinear
from guidance.models.bcos.norms import BatchNormUncentered2d, image_norm, layer_norm, position_norm
from guidance.models.bcos.vit import Attention, Patches
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.pullback.dynamic import _Mode, linearized
from guidance.models.pullback.rules import Explained, chain, compose, explain
from guidance.types import Forward
from tests.reference.bcos import matrices, net_matrices
from tests.support.explaining import attribute
from tests.support.small_nets import BCOS, CLASSES, NETS, build

DEPTHS = ("input", "mid1", "mid2", "mid3", "final")
# Modes in which each family offers a pullback: in training, B-cos norms take batch statistics.
MODES = [(name, training) for name in NETS for training in (False, True)]

LAYERS = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5)),
    "conv_strided": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), groups=2), (4, 6, 7)),
    "conv_dilated": (lambda: nn.Conv2d(4, 2, 3, dilation=2, padding=2, stride=2), (4, 7, 6)),
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "relu": (nn.ReLU, (2, 3, 3)),
    "max_pool": (lambda: nn.MaxPool2d(3, 2, 1), (2, 6, 7)),
    "average_pool": (lambda: nn.AvgPool2d(3, 2, 1), (2, 6, 7)),
    "bcos_conv": (lambda: BcosConv2d(4, 6, 3, padding=1), (4, 5, 5)),
    "bcos_conv_strided": (lambda: BcosConv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), groups=2), (4, 6, 7)),
    "bcos_conv_dilated": (lambda: BcosConv2d(4, 2, 3, dilation=2, padding=2, stride=2), (4, 7, 6)),
    "bcos_conv_point": (lambda: BcosConv2d(4, 6, 1, stride=2), (4, 5, 5)),
    "bcos_conv_wide_padding": (lambda: BcosConv2d(2, 3, 2, padding=2), (2, 4, 4)),
    "bcos_conv_b1": (lambda: BcosConv2d(4, 6, 3, b=1), (4, 5, 5)),
    "bcos_conv_b2.5": (lambda: BcosConv2d(4, 6, 3, b=2.5), (4, 5, 5)),
    "bcos_conv_max_out": (lambda: BcosConv2d(4, 6, 3, max_out=3), (4, 5, 5)),
    "bcos_conv_max_out_groups_b3": (lambda: BcosConv2d(4, 6, 3, max_out=2, groups=2, b=3), (4, 5, 5)),
    "bcos_linear": (lambda: BcosLinear(5, 3), (2, 3, 5)),
    "bcos_linear_vector": (lambda: BcosLinear(5, 3, b=1.5), (5,)),
    "bcos_linear_max_out": (lambda: BcosLinear(5, 3, max_out=2), (2, 3, 5)),
    "batch_norm_uncentered": (lambda: BatchNormUncentered2d(3), (3, 4, 4)),
    "layer_norm": (lambda: layer_norm(5), (2, 3, 5)),
    "position_norm": (lambda: position_norm(5), (5, 2, 3)),
    "position_norm_uncentered": (lambda: position_norm(5, centered=False), (5, 2, 3)),
    "image_norm": (lambda: image_norm(5), (5, 2, 3)),
    "attention": (lambda: Attention(8, 2), (2, 3, 8)),
}


def randomised(layer: nn.Module) -> nn.Module:
    layer = layer.double()
    for value in layer.state_dict().values():
        if value.dim() == 1 and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return layer


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_pullback_is_the_transposed_explicit_matrix(name: str, training: bool) -> None:
    make, shape = LAYERS[name]
    layer = randomised(make()).train(training)
    x = torch.randn(3, *shape, dtype=torch.float64)
    y, pullback = explain(layer, x)
    assert pullback is not None
    expected = matrices(layer, x)
    bias = getattr(layer, "bias", None)
    flat = (expected @ x.flatten(1)[:, :, None])[:, :, 0].view(y.shape)
    if isinstance(bias, Tensor):
        flat = flat + (bias[:, None, None] if y.dim() == 4 else bias)
    torch.testing.assert_close(y, flat)
    rows = torch.tensor([2, 0, 2, 1])
    grad = torch.randn(4, *y.shape[1:], dtype=torch.float64)
    wanted = (grad.flatten(1)[:, None] @ expected[rows])[:, 0].view(4, *shape)
    torch.testing.assert_close(pullback(grad, rows), wanted)
    torch.testing.assert_close(pullback(grad[:3]), (grad[:3].flatten(1)[:, None] @ expected)[:, 0].view(x.shape))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_linear_in_linearized_mode(name: str) -> None:
    """Autograd's gradient in linearized mode is the pullback: the oracle of all nets, checked for each layer."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    y, pullback = explain(layer, x)
    grad = torch.randn_like(y)
    with linearized():
        (gradient,) = torch.autograd.grad(y, x, grad)
    assert pullback is not None
    torch.testing.assert_close(gradient, pullback(grad))


@pytest.mark.parametrize("through", ["pullback", "double_backward"])
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("relu", "max_pool", "average_pool")])
def test_loss_on_the_map_of_a_layer_has_the_gradient_of_finite_differences(name: str, through: str) -> None:
    """A forward pass that detaches the dynamic factors fails this."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, *shape, dtype=torch.float64)

    def loss() -> Tensor:
        y, pullback = explain(layer, x)
        grad = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
        if through == "pullback":
            assert pullback is not None
            map_ = pullback(grad)
        else:
            with linearized():
                (map_,) = torch.autograd.grad(y, x, grad, create_graph=True)
        return (map_ * x * weights).sum() + (map_**2 * weights).sum()

    check_gradient(loss, [x, *layer.parameters()])


def check_gradient(loss: object, tensors: list[Tensor], *, step: float = 1e-6, tolerance: float = 1e-6) -> None:
    """The gradient of `loss` in two random directions of all `tensors` equals central differences."""
    assert callable(loss)
    for tensor in tensors:
        tensor.grad = None
    loss().backward()
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]
        exact = sum(float((t.grad * d).sum()) for t, d in zip(tensors, direction, strict=True) if t.grad is not None)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for t, d in zip(tensors, direction, strict=True):
                    t.add_(d, alpha=sign * step)
            values.append(float(loss().detach()))
            with torch.no_grad():
                for t, d in zip(tensors, direction, strict=True):
                    t.sub_(d, alpha=sign * step)
        assert exact == pytest.approx((values[0] - values[1]) / (2 * step), rel=tolerance, abs=1e-7)


@pytest.mark.parametrize("name", ["bcos_conv", "attention", "batch_norm_uncentered", "layer_norm", "bcos_linear"])
def test_ordinary_gradients_of_fused_layers_are_right(name: str) -> None:
    """Outside linearized mode a layer has the plain first and second derivatives of its output."""
    make, shape = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return layer(x)

    assert torch.autograd.gradcheck(output, (x, *parameters))
    assert torch.autograd.gradgradcheck(output, (x, *parameters))


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


@pytest.mark.parametrize("depth", DEPTHS)
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


def test_every_image_once_needs_no_selection_of_rows_and_gives_the_same() -> None:
    model, images = build("bcos_resnet")
    out = model(images.requires_grad_())
    image, target = torch.tensor([2, 0, 1]), torch.tensor([1, 3, 0])
    maps = attribute("bcos", model, out, "input", image, target, create_graph=False, rounds=1)
    again = attribute("bcos", model, out, "input", image, target, create_graph=False, rounds=2)
    torch.testing.assert_close(maps, again)
    assert not maps.requires_grad


def test_only_the_rows_asked_for_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = build("xdnn", batch=5)
    sizes = []
    real = torch.nn.functional.conv_transpose2d
    monkeypatch.setattr(
        torch.nn.functional, "conv_transpose2d", lambda grad, *a, **k: sizes.append(len(grad)) or real(grad, *a, **k)
    )
    out = model(images.requires_grad_())
    attribute("ixg", model, out, "input", torch.tensor([3]), torch.tensor([1]), create_graph=True)
    assert set(sizes) == {1}
    assert len(sizes) == 11


def test_batch_statistics_that_link_images_offer_no_pullback() -> None:
    model, images = build("relu_resnet")
    convert_batchnorm(model.net, "local")
    model.double().train()
    assert set(model(images).pullbacks) == {"final"}  # above it there is no norm
    model.eval()
    assert set(model(images).pullbacks) == set(DEPTHS)
    with torch.no_grad():
        assert set(model(images).pullbacks) == set()


def test_no_pairs_give_an_empty_map_with_zero_gradients() -> None:
    model, images = build("bcos_simple_vit")
    out = model(images.requires_grad_())
    none = torch.zeros(0, dtype=torch.long)
    map_ = attribute("bcos", model, out, "mid2", none, none, create_graph=True, rounds=1)
    assert map_.shape == (0, 3, 3)
    map_.sum().backward()


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


def test_patches_are_cut_row_by_row_with_channels_fastest() -> None:
    x = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    patches = Patches(2)(x)
    assert patches.shape == (1, 2, 2, 8)
    assert patches[0, 0, 1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]
    assert torch.equal(Patches(2)(x[:, :, :2]), patches[:, :1])  # an image need not be square
    with pytest.raises(ValueError, match="multiples of"):
        Patches(3)(x)


def test_bcos_names_are_all_dynamic() -> None:
    assert all(build(name)[0].dynamic for name in BCOS)
    assert not build("xdnn")[0].dynamic


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize("settings", [{}, {"groups": 2}, {"b": 1.5}, {"max_out": 2}], ids=str)
def test_fused_convolution_and_norm_equal_the_two_layers(mode: str, settings: dict[str, Any]) -> None:
    """Also for another B and for max-out, which are not fused."""
    conv = BcosConv2d(4, 6, 3, stride=2, padding=1, **settings).double()
    norms = [randomised(BatchNormUncentered2d(6)).train(mode != "eval") for _ in range(2)]
    norms[1].load_state_dict(norms[0].state_dict())
    for norm in norms:
        norm.statistics = "frozen" if mode == "frozen" else "local"
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([2, 0])
    results = []
    for run, norm in ((chain, norms[0]), (apart, norms[1])):
        y, pullback = run(x, (conv, norm))
        assert pullback is not None
        map_ = pullback(torch.ones_like(y)[rows] * torch.arange(1.0, 3.0).double()[:, None, None, None], rows)
        wanted = [x, *conv.parameters(), norm.weight]
        for output in (y.pow(2).sum(), map_.pow(2).sum(), y.pow(2).sum() + map_.pow(3).sum()):
            results.append(torch.autograd.grad(output, wanted, retain_graph=True, allow_unused=True))
        results.append((y, map_, norm.running_var, norm.num_batches_tracked))
    assert len(results) == 8
    for fused, plain in zip(results[:4], results[4:], strict=True):
        torch.testing.assert_close(fused, plain)


def apart(x: Tensor, layers: tuple[nn.Module, nn.Module]) -> Explained:
    y, first = explain(layers[0], x)
    y, second = explain(layers[1], y)
    return y, compose(first, second)


@pytest.mark.parametrize("training", [False, True])
def test_fused_convolution_and_norm_have_right_first_and_second_derivatives(training: bool) -> None:
    conv = BcosConv2d(2, 3, 2).double()
    norm = randomised(BatchNormUncentered2d(3)).train(training)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def both(x: Tensor, grad: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        y, pullback = chain(x, (conv, norm))
        assert pullback is not None
        return y, pullback(grad)

    inputs = (x, grad, *conv.parameters(), *norm.parameters())
    assert torch.autograd.gradcheck(both, inputs)
    assert torch.autograd.gradgradcheck(both, inputs)


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
