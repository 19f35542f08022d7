"""Wrapping nets of one's own: equal to the nets of the table where these exist, whatever their forward does, or refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.attribution import Request, explain, one_hot
from guidance.models import build_model, wrap
from guidance.models.layers.normalization import FrozenBatchNorm2d, SyncBatchNorm2d
from guidance.models.wrapping.recording import RecordingClassifier
from tests.unit.models.wrapping.steps import check_gradients, check_maps, guided_loss, maps_in_graph, wrapped

STAGES = {"mid1": "layer1", "mid2": "layer2", "mid3": "layer3", "final": "layer4"}


def images(side: int = 12) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, side, side, dtype=torch.float64)


@pytest.mark.parametrize("batchnorm", ["local", "frozen"])
@pytest.mark.parametrize("training", [True, False])
def test_a_wrapped_resnet_is_the_one_of_the_table(batchnorm: str, training: bool) -> None:
    """Features, pullbacks, maps and gradients to the bit."""
    torch.manual_seed(0)
    own = build_model("resnet18", num_classes=3, batchnorm=batchnorm)
    model = wrap(copy.deepcopy(own.net), STAGES, batchnorm=batchnorm)
    assert model.depths == own.depths
    assert model.layerwise_evaluation
    x, rows, found = torch.rand(2, 3, 64, 64), torch.arange(2), []
    for net in (own, model):
        out = net.train(training)(x)
        maps = maps_in_graph(net, x, "mid2")
        loss = guided_loss(net, x, "input")
        gradients = torch.autograd.grad(loss, net.net.layer1[0].conv1.weight)
        explained, _ = explain(net, x, Request("gradcam", "final", rows, one_hot(rows, 3)))
        found.append((out.logits, *out.features.values(), maps, *gradients, explained, sorted(out.pullbacks)))
    for a, b in zip(*found, strict=True):
        assert a == b if isinstance(a, list) else torch.equal(a, b)


class Own(nn.Module):
    """A forward with what people write: functions, in-place sums, dropout by a function, an argument with a value."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.block, self.down = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 2, stride=2)
        self.fc = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = functional.hardswish(self.norm(self.stem(x)))
        x = x + self.block(x) * self.scale
        if mask is not None:
            x = x * mask
        x = self.down(x)
        x += 1
        x = functional.dropout(x.relu_(), 0.5, self.training)
        return self.fc(x.mean((2, 3)))


def test_depths_of_a_net_of_ones_own() -> None:
    torch.manual_seed(0)
    model = wrapped(Own().double(), images(), {"final": "down", "mid": "stem"})
    assert model.depths == ("input", "mid", "final")  # in the order in which the net computes them
    assert type(model) is not RecordingClassifier
    out = model(images())
    expected = model.net.stem(images())
    torch.testing.assert_close(out.features["mid"], expected)
    check_maps(model, images())
    for depth in model.depths:
        check_gradients(model, images(), depth)


def test_what_is_overwritten_later_is_recorded_before() -> None:
    """The features at `down` are what the layer returned, not what x += 1 and relu_ make of them; restarts agree."""
    torch.manual_seed(0)
    model = wrapped(Own().double(), images(), {"final": "down"})
    found: list[Tensor] = []
    handle = model.net.down.register_forward_hook(lambda module, given, output: found.append(output.clone()))
    out = model(images())
    handle.remove()
    assert torch.equal(out.features["final"], found[0])
    assert torch.equal(model.upper(model.lower(images(), "final"), "final").logits, out.logits)


def test_dropout_called_as_a_function_follows_the_mode() -> None:
    torch.manual_seed(0)
    net = Own().double()
    model = wrapped(net, images(), {"final": "down"})
    model.train()
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected = net(images())
        torch.manual_seed(seed)
        torch.testing.assert_close(model(images()).logits, expected)
    torch.testing.assert_close(model.eval()(images()).logits, net(images()))


def test_it_follows_its_net() -> None:
    """Norms that are converted later, another dtype, and a deep copy with weights of its own."""
    torch.manual_seed(0)
    model = wrapped(Own().double(), images(), {"final": "block"})
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.net.stem.weight.zero_()
        twin.net.scale.zero_()
    assert not torch.equal(twin(images()).logits, model(images()).logits)
    torch.testing.assert_close(twin(images()).logits, twin.net(images()))
    torch.testing.assert_close(model(images()).logits, model.net(images()))
    assert model.float()(images().float()).logits.dtype == torch.float32


class Looped(nn.Module):
    """A layer called twice, around something that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = self.again(x).tanh_()
        if x.shape[2] > 1000:
            x = x[:, :, ::2]
        return self.fc(x.mean((2, 3)))


def test_of_a_layer_called_twice_the_last_call_counts() -> None:
    """In a net that cannot be traced, and in one that can."""
    torch.manual_seed(0)
    traced = nn.Sequential(
        nn.Conv2d(3, 4, 1), conv := nn.Conv2d(4, 4, 3), nn.Tanh(), conv, nn.Flatten(), nn.LazyLinear(3)
    )
    traced(images().float())
    for net, kind, layer, low in ((Looped(), RecordingClassifier, "again", None), (traced, None, "3", 8)):
        model = wrapped(net.double(), images(), {"final": layer})
        assert kind is None or type(model) is kind
        calls: list[Tensor] = []
        module = net.get_submodule(layer)
        handle = module.register_forward_hook(lambda module, given, output, calls=calls: calls.append(output.clone()))
        out = model(images())
        handle.remove()
        assert len(calls) == 2
        assert torch.equal(out.features["final"], calls[1])
        assert low is None or out.features["final"].shape[2] == low
        check_maps(model, images())
        check_gradients(model, images(), "final")


def test_a_depth_that_something_passes_by_is_recorded() -> None:
    """Its gradient is that of a full pass by the layer's output; what would restart there is refused."""
    torch.manual_seed(0)
    model = wrapped(Own().double(), images(), {"stem": "stem", "branch": "block", "final": "down"})
    assert isinstance(model, RecordingClassifier)
    assert model.depths == ("input", "stem", "branch", "final")
    check_maps(model, images())
    check_gradients(model, images(), "branch")
    out = model.explainable(images(), "branch")
    x = out.features["branch"]
    (gradient,) = torch.autograd.grad(out.logits[0, 0], x, retain_graph=True)
    step = torch.randn_like(x)
    hook = model.net.block.register_forward_hook(lambda module, given, output: output + 1e-6 * step)
    moved = model.net(images())[0, 0]
    hook.remove()
    torch.testing.assert_close((moved - out.logits[0, 0]) / 1e-6, (gradient * step).sum(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.lower(images(), "branch"), x)
    with pytest.raises(
        ValueError, match=r"cannot be restarted at depth 'branch': .* by its layer, 'block'\. Use a method"
    ):
        model.upper(x, "branch")
    assert torch.equal(model.upper(model.lower(images(), "stem"), "stem").logits, out.logits)
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_and_synchronised_norms() -> None:
    for mode, kind in (("frozen", FrozenBatchNorm2d), ("sync", SyncBatchNorm2d)):
        model = wrap(Own(), {"final": "down"}, example=images().float(), batchnorm=mode)
        assert isinstance(model.net.norm, kind)
        assert model.train()(images().float()).logits.shape == (2, 3)


def test_lrp_of_a_wrapped_net() -> None:
    """Where every layer has a rule: as of the net of the table. Otherwise what has none is named."""
    pytest.importorskip("zennit")
    torch.manual_seed(0)
    own = build_model("resnet8", num_classes=3).eval()
    model = wrap(copy.deepcopy(own.net), {"mid1": "layer1"}, example=images(16).float()).eval()
    request = Request("lrp", "input", torch.arange(2), one_hot(torch.arange(2), 3))
    torch.testing.assert_close(*(explain(net, images(16).float(), request).maps for net in (own, model)))
    with pytest.raises(ValueError, match="LRP has no rule for hardswish"):
        explain(wrapped(Own().double(), images()), images(), request)
