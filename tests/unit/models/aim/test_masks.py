"""AIM: the binary masks, their noise, and the estimator that draws them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.maps import merged_mask
from guidance.models.aim import MaskEstimator, binary_mask
from guidance.models.aim.masks import emphasize_edges, logistic
from guidance.models.layers.noise import sample_keys, uniform
from tests.support.nets import aim_of


def test_masks_are_exactly_binary_and_the_gradient_passes_straight() -> None:
    logits = torch.linspace(-9, 9, 721).view(1, 1, 1, -1).requires_grad_()
    for temperature in (0.5, 1.0, 3.0):
        noise = logistic(uniform(sample_keys(0, 0, torch.tensor([1])), 0, logits.shape[1:]))
        mask = binary_mask(logits, noise, temperature=temperature)
        assert mask.unique().tolist() == [0, 1]
        assert torch.equal(mask.bool(), logits + noise >= 0)
        (gradient,) = torch.autograd.grad(mask.sum(), logits)
        soft = torch.sigmoid((logits + noise) / temperature)
        torch.testing.assert_close(gradient, soft * (1 - soft) / temperature)


def test_a_cell_is_active_with_the_probability_of_its_logit() -> None:
    """Whatever the temperature: the noise is logistic."""
    keys, logits = sample_keys(0, 0, torch.arange(200)), torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    noise = logistic(uniform(keys, 0, (1000, 5)))
    for temperature in (0.5, 2.0):
        share = binary_mask(logits.expand_as(noise), noise, temperature=temperature).mean((0, 1))
        torch.testing.assert_close(share, torch.sigmoid(logits), atol=3e-3, rtol=0)


def test_masks_without_noise_are_deterministic() -> None:
    assert binary_mask(torch.tensor([-1e-6, 0.0, 1e-6])).tolist() == [0, 1, 1]
    estimator, x = MaskEstimator(3, width=4), torch.randn(2, 3, 8, 8)
    logits, mask = estimator.eval()(x)
    assert torch.equal(mask, (logits >= 0).float())
    assert torch.equal(estimator(x)[1], mask)
    estimator.train()
    drawn = [estimator(x)[1] for _ in range(4)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    estimator.noisy = False
    assert torch.equal(estimator(x)[1], mask)


def test_half_precision_does_not_reach_the_noise() -> None:
    estimator = MaskEstimator(3, width=4).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, mask = estimator(torch.randn(2, 3, 8, 8))
    assert logits.dtype == mask.dtype == torch.float32


def test_the_estimator_is_the_one_of_the_paper() -> None:
    """Its layers applied one by one, with the context of the whole map beside every cell."""
    estimator, x = MaskEstimator(3, width=4).double().eval(), torch.randn(2, 3, 5, 7, dtype=torch.float64)

    def normalized(conv: nn.Conv2d, x: Tensor) -> Tensor:
        y = functional.conv2d(x, conv.weight, conv.bias, padding=1)
        centred = y - y.mean((1, 2, 3), keepdim=True)
        return centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()

    y = normalized(estimator.stem, x).relu()
    for block in estimator.blocks:
        y = (y + normalized(block.conv2, normalized(block.conv1, y).relu())).relu()
    weight, bias = estimator.score.weight[0, :, 0, 0], estimator.score.bias
    logits = torch.einsum("bchw,c->bhw", y, weight[:4]) + (y.mean((2, 3)) @ weight[4:])[:, None, None] + bias
    torch.testing.assert_close(estimator(x)[0][:, 0], logits)


def test_edges_weigh_more_than_centres() -> None:
    conv, pointwise = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 1)
    before, untouched = conv.weight.detach().clone(), pointwise.weight.detach().clone()
    emphasize_edges(nn.Sequential(conv, pointwise))
    corner, side, centre = math.sqrt(2) + 0.1, 1.1, 0.1
    mean = (4 * corner + 4 * side + centre) / 9
    expected = torch.tensor([[corner, side, corner], [side, centre, side], [corner, side, corner]]) / mean
    torch.testing.assert_close(conv.weight.detach() / before, expected.expand(3, 2, 3, 3))
    assert torch.equal(pointwise.weight, untouched)


def test_the_largest_mask_is_that_of_the_most_cells() -> None:
    wide, high = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 4, 2)
    wide[..., 0, 0] = 1
    high[..., 3, 1] = 1
    merged = merged_mask({"wide": wide, "high": high})  # rows 0 and 1 of `high` lie in row 0 of `wide`
    assert merged[0, 0].tolist() == [[1, 0], [1, 0], [0, 0], [0, 1]]


def test_draws_belong_to_the_samples() -> None:
    """The whole training forward, drop-out and drop-path included, of a batch and of its parts."""
    model = aim_of("convnext_tiny", 2, classes=3).double().train()
    for module in model.net.backbone.modules():
        if type(module).__name__ == "DropPath":
            module.p = 0.5
    images, keys = torch.randn(4, 3, 64, 64, dtype=torch.float64), sample_keys(0, 0, torch.arange(4))
    out = model(images, keys)
    part = model(images[2:], keys[2:])
    torch.testing.assert_close(part.logits, out.logits[2:])
    for stage, mask in part.masks.items():
        assert torch.equal(mask, out.masks[stage][2:])
    assert not torch.equal(model(images, sample_keys(0, 1, torch.arange(4))).logits, out.logits)
