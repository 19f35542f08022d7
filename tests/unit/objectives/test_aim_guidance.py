"""The guidance of AIM: its masks and its maps, by hand, by differences, at every depth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guidance.losses import energy
from guidance.models.layers.noise import sample_keys
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.nets import tiny_aim
from tests.support.objectives import batch_of


def test_mask_guidance_by_hand() -> None:
    """Energy of the soft masks in the union of an image's regions, once for each of its pairs, as a mean over stages."""
    batch = batch_of(4, regions=[(0, 0), (0, 1), (3, 2)])
    batch.regions.mask[1] = torch.arange(16) < 3  # another region of the first image
    guided = make.tiny_masking(localization=energy, mask_weight=0.5, reduction="mean", threshold=None).train()
    step = guided(batch, guided.counts(batch))
    out = guided.model(batch.images, sample_keys(0, 0, batch.index))
    union = batch.regions.mask.clone()
    union[:2] = batch.regions.mask[0] | batch.regions.mask[1]
    soft = [torch.sigmoid(x[:, 0]) for x in out.mask_logits.values()]
    expected = sum(energy(maps[batch.regions.image], union).mean() for maps in soft) / 3
    torch.testing.assert_close(step.terms["mask_localization"], expected.detach())
    index, losses = step.samples["mask_localization"]
    assert torch.equal(index, batch.index[batch.regions.image])
    torch.testing.assert_close(losses, sum(energy(maps[batch.regions.image], union) for maps in soft).detach() / 3)
    unguided = step.terms["classification"] + step.terms["auxiliary"]
    torch.testing.assert_close(step.loss.detach(), unguided + 0.5 * expected.detach())
    nothing = batch_of(4, regions=[])
    assert "mask_localization" not in guided(nothing, guided.counts(nothing)).terms


def test_guided_aim_follows_its_gradient() -> None:
    """A loss on the attribution of the fused map and on soft masks, against central differences of the soft parts.

    The masks are held fixed by logits far from zero, because a step function has no gradient to compare with.
    """
    model = tiny_aim(dropout=0.0).eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, 3.0)
    batch = batch_of(3, regions=[(0, 0), (2, 1)])
    guided = make.tiny_masking(model, localization=energy, weight=0.7, reduction="mean", attribution="ixg", depth="final",
                       threshold=None).eval()  # fmt: skip
    weight = model.net.blocks["stage2"].refine.weight

    def loss() -> Tensor:
        step = guided(batch, guided.counts(batch))
        assert "localization" in step.terms
        return step.loss

    (gradient,) = torch.autograd.grad(loss(), weight)
    for place in [(0, 0, 1, 1), (3, 2, 0, 2), (5, 5, 2, 1)]:
        values = []
        for step in (1, -2, 1):
            weight.data[place] += step * 1e-6
            values.append(float(loss().detach()))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(gradient[place]), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("depth", ["input", "mid1", "final"])
@pytest.mark.parametrize("method", ["ixg", "gradcam", "saliency", "intgrad", "guided_backprop", "guided_gradcam"])
def test_an_aim_net_can_be_guided_at_its_depths(method: str, depth: str) -> None:
    guided = make.tiny_masking(localization=energy, weight=0.5, attribution=method, depth=depth).train()
    batch = batch_of(4)
    step = guided(batch, guided.counts(batch))
    step.loss.backward()
    assert {"localization", "area", "auxiliary"} <= set(step.terms)
    assert all(torch.isfinite(p.grad).all() for p in guided.parameters())


def test_the_maps_that_are_guided_are_those_that_are_evaluated() -> None:
    """A mask is a constant of an attribution, also in training, where a gradient for the losses passes through it."""
    model = tiny_aim(dropout=0.0)
    model.set_noise(False)
    images, pairs = torch.randn(2, 3, 12, 12, dtype=torch.float64), (torch.arange(2), torch.tensor([0, 2]))
    for depth in model.depths:
        maps = {}
        for training in (True, False):
            out = model.train(training)(images.clone().requires_grad_())
            maps[training] = attribute("ixg", model, out, depth, *pairs, create_graph=training)
        torch.testing.assert_close(maps[True], maps[False])
        (gradient,) = torch.autograd.grad(
            maps[True].square().sum(), model.net.masks["stage1"].score.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0, "a loss on the map trains the masks all the same"
