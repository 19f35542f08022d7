"""Many maps at once, what is left behind, what training through a map gives, and mistakes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS, Method, Request, explain, one_hot
from guidance.losses import energy
from guidance.models import BACKBONES
from guidance.models.vit.attention import SelfAttention
from tests.support.explaining import attribute, pairs
from tests.support.nets import tiny
from tests.support.small_nets import vit_tiny
from tests.unit.attribution.test_left_behind import state

NAMES = [name for name, row in ATTRIBUTIONS.items() if "attention" in row.needs]
TRAINED = [name for name in NAMES if ATTRIBUTIONS[name].trainable]
each_name = pytest.mark.parametrize("method", NAMES)
DEPTHS = ("input", "mid2", "final")


def images(batch: int = 3) -> Tensor:
    return torch.rand(batch, 3, 8, 8, dtype=torch.float64).requires_grad_()


def short(method: str) -> Method:
    """The method, with a path of two points where it has one."""
    row = ATTRIBUTIONS[method]
    return row.bind({"steps": 2}) if "steps" in row.options else row


@each_name
@pytest.mark.parametrize("depth", DEPTHS)
def test_many_maps_equal_one_at_a_time(method: str, depth: str) -> None:
    model, x, chosen = vit_tiny(), images(), short(method)
    which = [(2, 0), (0, 1), (2, 2), (0, 0), (2, 2)]
    out = model(x)
    together = attribute(chosen, model, out, depth, *pairs(*which), create_graph=False)
    for m in (1, 2):
        row, target = which[m]
        alone = attribute(chosen, model, model(x[row : row + 1]), depth, *pairs((0, target)), create_graph=False)
        torch.testing.assert_close(together[m : m + 1], alone)
    torch.testing.assert_close(together[4], together[2])
    more = attribute(chosen, model, out, depth, *pairs(*which), create_graph=False, rounds=4)
    assert torch.equal(more, together)
    side = 8 if (method, depth) == ("value_gradient", "input") else 2
    assert together.shape == (5, side, side)
    assert attribute(chosen, model, out, depth, *pairs(), create_graph=False, rounds=0).shape == (0, side, side)


@each_name
def test_all_classes_of_an_image_take_as_many_forward_passes_as_one(method: str) -> None:
    model, x = vit_tiny().eval(), images(1).detach()
    counts = []
    for number in (1, 4):
        calls: list[nn.Module] = []
        handle = model.net.encoder.layers[2].register_forward_hook(lambda module, *_, calls=calls: calls.append(module))
        rows = torch.zeros(number, dtype=torch.long)
        explain(model, x, Request(short(method), "input", rows, one_hot(torch.arange(number), 4)))
        handle.remove()
        counts.append(len(calls))
    steps = short(method).options.get("steps", 0)
    assert counts == [2 + steps, 2 + steps]  # that of `explain`, that of the attention, those of the path


@each_name
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_behind(method: str, failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vit_tiny().train()
    model.net.heads.eval()
    out = model(images())
    before = state(model), [m.form for m in model.modules() if isinstance(m, SelfAttention)]
    if failing:

        def fail(*_: object) -> Tensor:
            raise RuntimeError("in the head")

        monkeypatch.setattr(model.net.heads.head, "forward", fail)
        with pytest.raises(RuntimeError, match="in the head"):
            attribute(short(method), model, out, "mid1", *pairs((0, 1)), create_graph=False)
    else:
        attribute(short(method), model, out, "mid1", *pairs((0, 1), (1, 2)), create_graph=False)
    assert (state(model), [m.form for m in model.modules() if isinstance(m, SelfAttention)]) == before
    monkeypatch.undo()
    with pytest.raises(IndexError):
        attribute(short(method), model, out, "mid1", *pairs((0, 1), (0, 2)), create_graph=False, rounds=1)


@pytest.mark.parametrize(
    ("method", "depth"),
    [(name, "mid2") for name in TRAINED if name != "value_gradient"]  # which is zero there, as is the plain gradient
    + [(name, "input") for name in ("ixg", "gradcam", "grad_rollout", "value_gradient")]
    + [(name, "final") for name in ("ixg", "gradcam", "attention_gradcam")],
)
def test_the_gradient_of_a_loss_on_a_map_is_that_of_finite_differences(method: str, depth: str) -> None:
    """Of all parameters along random directions. Methods of attention, and those of any net at the tokens of a ViT."""
    torch.manual_seed(2)
    model, chosen = vit_tiny(), short(method)
    x, mask = images(2), torch.tensor([[True, False], [False, True]]).expand(2, 2, 2)
    parameters = list(model.parameters())

    def value() -> Tensor:
        maps = attribute(chosen, model, model(x), depth, *pairs((0, 0), (1, 2)), create_graph=True, rounds=1)
        return energy(maps, mask).sum()

    gradients = torch.autograd.grad(value(), parameters, materialize_grads=True)
    for _ in range(2):
        direction = [torch.randn_like(p) for p in parameters]
        values = []
        for sign in (1, -2, 1):  # there, back to the other side, and home
            with torch.no_grad():
                for parameter, step in zip(parameters, direction, strict=True):
                    parameter += sign * 1e-6 * step
            values.append(float(value().detach()))
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        assert abs(expected) > 1e-4
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_given_is_told() -> None:
    model = tiny()
    out = model(torch.randn(1, 2, 6, 6, dtype=torch.float64).requires_grad_())
    with pytest.raises(
        ValueError, match=r"needs the attention of a vision transformer .* which a TinyNet is not: take build_model"
    ):
        attribute("rollout", model, out, "input", *pairs((0, 1)), create_graph=False)
    vit, x = vit_tiny(), images(1)
    with pytest.raises(ValueError, match=r"maps of T-LRP cannot be trained through \(its rules divide by sums"):
        attribute("t_lrp", vit, vit(x), "mid1", *pairs((0, 1)), create_graph=True)
    for method, options, message in (
        ("t_attn", {"start": 6}, "start of t_attn must be a block of the net, 0 to 5, not 6"),
        ("bi_attn", {"steps": 1}, "steps of t_attn and bi_attn must be at least 2, not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(ATTRIBUTIONS[method].bind(options), vit, vit(x), "mid2", *pairs((0, 1)), create_graph=False)
    assert ATTRIBUTIONS["rollout"].refuses(BACKBONES["resnet50"].traits).startswith("the attention")
    assert not any(ATTRIBUTIONS[name].refuses(BACKBONES["vit_s_16"].traits) for name in NAMES)


def test_a_net_without_evidence_has_zero_maps_and_finite_ones() -> None:
    """As torchvision initialises it: the classifier is zero."""
    model, rows = vit_tiny().eval(), torch.tensor([0])
    nn.init.zeros_(model.net.heads.head.weight)
    for method in NAMES:
        maps = explain(model, images(1).detach(), Request(short(method), "mid3", rows, one_hot(rows, 4))).maps
        assert maps.isfinite().all()
        assert bool(maps.any()) == (method == "rollout")
