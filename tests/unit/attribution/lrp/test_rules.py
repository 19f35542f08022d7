"""LRP against a slow implementation that knows layers as black boxes, against zennit's own way, and its conservation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import Request, explain, one_hot
from guidance.attribution.lrp.propagation import COMPOSITES
from guidance.models import BACKBONES, build_model
from guidance.models.classifier import Classifier
from guidance.models.cnns.torchvision_nets import RESNET_STAGES
from guidance.models.cnns.xdnn import xdnn_resnet
from tests.reference.relevance import STABILIZER, handed_down
from tests.unit.attribution.lrp.nets import (
    alive,
    dense,
    images_of,
    relevance,
    residual,
    small_resnet,
    torchvision_densenet,
)

zennit = pytest.importorskip("zennit.composites")

RULES = {"epsilon": "epsilon", "epsilon_plus": "plus", "epsilon_alpha2_beta1": "alpha2_beta1"}


def shared(parts: list[Tensor], given: Tensor) -> list[Tensor]:
    """Relevance of the terms of a sum."""
    total = torch.stack(parts).sum(0)
    total = total + torch.where(total >= 0, STABILIZER, -STABILIZER)
    return [part / total * given for part in parts]


@pytest.mark.parametrize("composite", [*RULES, "epsilon_plus_flat"])
def test_a_residual_net_equals_the_slow_way(composite: str) -> None:
    """Convolutions together with their norms are one affine layer each."""
    model, rule = residual(), RULES[composite.removesuffix("_flat")]
    stem, norm, relu, pool, block, mean, flat, last = model.net
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        a = relu(norm(stem(x)))
        b = pool(a)
        inner = relu(block.bn1(block.conv1(b)))
        c = block.bn2(block.conv2(inner))
        d = relu(b + c)
        e = mean(d)
        logits = last(flat(e))
    r = torch.zeros_like(logits)
    r[0, 2] = logits[0, 2]
    r = handed_down(last, flat(e), r, "epsilon").view_as(e)
    r = handed_down(mean, d, r, "epsilon")
    torch.testing.assert_close(relevance(model, x, "final", composite, 2), r.sum(1))
    through_skip, through_block = shared([b, c], r)
    through_block = handed_down(lambda y: block.bn2(block.conv2(y)), inner, through_block, rule)
    r = through_skip + handed_down(lambda y: block.bn1(block.conv1(y)), b, through_block, rule)
    torch.testing.assert_close(relevance(model, x, "mid1", composite, 2), r.sum(1))
    leaf = a.clone().requires_grad_()
    (r,) = torch.autograd.grad(pool(leaf), leaf, r)  # all to the winner
    r = handed_down(lambda y: norm(stem(y)), x, r, "flat" if composite.endswith("flat") else rule)
    torch.testing.assert_close(relevance(model, x, "input", composite, 2), r.sum(1))


@pytest.mark.parametrize("composite", RULES)
def test_a_dense_net_equals_the_slow_way(composite: str) -> None:
    """A norm and its ReLU in front of a layer: the inputs of that layer are thresholded where the norm is zero."""
    model, rule = dense(), RULES[composite]
    stem, block, norm, relu, mean, flat, last = model.net

    def thresholded(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        with torch.no_grad():
            at_zero, at_one = norm(torch.zeros_like(x)), norm(torch.ones_like(x))
            return torch.where(norm(x) > 0, x, -at_zero / (at_one - at_zero))

    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    states = [stem(x).detach()]
    for layer in block.values():
        inner = layer.norm2(layer.conv1(layer.relu1(layer.norm1(states[-1]))))
        states.append(torch.cat([states[-1], layer.conv2(layer.relu2(inner))], 1).detach())
    top = thresholded(norm, states[-1])
    pooled = flat(mean(top))
    logits = last(flat(mean(relu(norm(states[-1])))))
    r = torch.zeros_like(logits)
    r[0, 1] = logits[0, 1]
    r = handed_down(lambda y: last(flat(norm(y.view(1, -1, 1, 1)))), pooled, r, "epsilon")
    r = handed_down(mean, top, r.view(1, -1, 1, 1), "epsilon")
    torch.testing.assert_close(relevance(model, x, "mid1", composite, 1), r.sum(1))
    for layer, before in zip(reversed(list(block.values())), states[-2::-1], strict=True):
        below = thresholded(layer.norm1, before)
        hidden = layer.relu2(layer.norm2(layer.conv1(layer.norm1(below)))).detach()
        given = handed_down(layer.conv2, hidden, r[:, before.shape[1] :], rule)
        given = handed_down(lambda y, layer=layer: layer.norm2(layer.conv1(layer.norm1(y))), below, given, rule)
        r = r[:, : before.shape[1]] + given
    r = handed_down(stem, x, r, rule)
    torch.testing.assert_close(relevance(model, x, "input", composite, 1), r.sum(1))


def test_a_resnet_equals_zennit_with_its_own_canonizer() -> None:
    """Which leaves an identity norm behind, with its eps of 1e-5."""
    model = Classifier(alive(small_resnet()), RESNET_STAGES).eval()
    x, seed = torch.randn(2, 3, 32, 32, dtype=torch.float64), one_hot(torch.tensor([1, 2]), 4).double()
    twin = small_resnet().double().eval()
    twin.load_state_dict(model.net.state_dict())
    low, high = (
        (value - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]) for value in (0, 1)
    )
    box = {"low": low.view(1, 3, 1, 1), "high": high.view(1, 3, 1, 1)}
    from zennit.torchvision import ResNetCanonizer

    theirs = {
        "epsilon_plus_flat": zennit.EpsilonPlusFlat(canonizers=[ResNetCanonizer()]),
        "epsilon_gamma_box": zennit.EpsilonGammaBox(**box, canonizers=[ResNetCanonizer()]),
    }
    for name, composite in theirs.items():
        with composite.context(twin):
            leaf = x.clone().requires_grad_()
            logits = twin(leaf)
            (expected,) = torch.autograd.grad(logits, leaf, seed * logits.detach())
        ours = relevance(model, x, "input", name, 1, 2)
        assert float((ours - expected.sum(1)).norm() / ours.norm()) < 1e-3


BIAS_FREE: dict[str, Callable[[], Classifier]] = {
    "residual": lambda: residual(biases=False),
    "dense": lambda: dense(biases=False),
    "densenet": lambda: torchvision_densenet(biases=False),
    "xdnn": lambda: xdnn_resnet(alive(small_resnet(norm_layer=nn.Identity))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BIAS_FREE)
def test_epsilon_conserves_the_logit_where_there_are_no_biases(name: str) -> None:
    """And is input times gradient there (Ancona et al. 2018, Prop. 1)."""
    model = BIAS_FREE[name]()
    if name == "xdnn":
        nn.init.normal_(model.net.fc.weight)
        for block in (model.net.layer1[0], model.net.layer2[0], model.net.layer3[0], model.net.layer4[0]):
            nn.init.normal_(block.conv2.weight, std=0.03)
    model = model.double().eval()
    x = images_of(name)
    logits = model(x).logits
    for depth in model.depths:
        found = relevance(model, x, depth, "epsilon", 1, 3)
        torch.testing.assert_close(found.sum((1, 2)), logits[[0, 1], [1, 3]], rtol=1e-2, atol=1e-3)
    seed = one_hot(torch.tensor([1, 3]), 4)
    ixg = explain(model, x, Request("ixg", "input", torch.arange(2), seed)).maps
    assert float((relevance(model, x, "input", "epsilon", 1, 3) - ixg).norm() / ixg.norm()) < 1e-2


def test_seeds_are_weights_of_logits_and_composites_need_their_name() -> None:
    model, x = residual(), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    seeds = torch.tensor([[0.0, 2.0, 0.0, -1.0]])
    both = explain(model, x, Request("lrp", "input", torch.tensor([0]), seeds)).maps
    parts = [relevance(model, x, "input", "epsilon_plus_flat", k)[0] for k in (1, 3)]
    torch.testing.assert_close(both[0], 2 * parts[0] - parts[1])
    with pytest.raises(ValueError, match=r"unknown composite of lrp 'epsilon_flat'; known: .*epsilon_plus_flat"):
        relevance(model, x, "input", "epsilon_flat", 0)
    assert relevance(model, x[:0], "input", "epsilon").shape == (0, 6, 6)


def test_all_composites_at_all_depths_give_finite_maps() -> None:
    model, x = torchvision_densenet(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for composite in COMPOSITES:
        assert relevance(model, x, "input", composite, 0).isfinite().all()
    assert torch.equal(
        relevance(model, x, "mid2", "epsilon_plus_flat", 0), relevance(model, x, "mid2", "epsilon_plus", 0)
    )


def test_nets_of_the_table_that_say_so_have_rules_for_all_layers() -> None:
    from guidance.attribution.lrp.propagation import lrp_remark

    found = {}
    for name in ("resnet8", "resnet18", "densenet121", "xdnn_resnet18", "convnext_tiny", "bcos_resnet18"):
        model = build_model(name, num_classes=2)
        try:
            found[name] = lrp_remark(model)
        except ValueError as error:
            found[name] = str(error)
        assert ("has no rule" in found[name]) == ("relevance" not in BACKBONES[name].traits)
    assert "20 batch norms are merged" in found["resnet18"]
    assert "121 batch norms are merged, 62 of them in front of a ReLU" in found["densenet121"]
    assert (
        "no rule for features.0.1 (LayerNorm2d), features.1.0 (CNBlock), features.1.1 (CNBlock) and"
        in found["convnext_tiny"]
    )
