"""B-cos layers: the published formulas by hand."""

from __future__ import annotations

import math

import pytest
import torch

from guidance.models.bcos.modules import BcosConv2d, BcosLinear
from guidance.models.bcos.norms import BatchNormUncentered2d
from guidance.models.bcos.vit import position_embedding
from guidance.models.layers.normalization import convert_batchnorm
from tests.support.small_nets import build


def test_conv_is_cosine_times_projection_by_hand() -> None:
    conv = BcosConv2d(1, 1, 2).double()
    conv.linear.weight.data = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]], dtype=torch.float64)  # length 5
    x = torch.tensor([[[[1.0, 2.0], [2.0, 4.0]]]], dtype=torch.float64)  # length 5, product 19
    projection = 19 / 5
    assert float(conv(x).detach()) == pytest.approx(projection * (projection / 5), rel=1e-7)
    assert float(conv(-x).detach()) == pytest.approx(-projection * (projection / 5), rel=1e-7)


def test_linear_is_cosine_times_projection_by_hand() -> None:
    linear = BcosLinear(2, 1).double()
    linear.linear.weight.data = torch.tensor([[3.0, 4.0]], dtype=torch.float64)  # length 5
    x = torch.tensor([-0.6, 3.2], dtype=torch.float64)  # length sqrt(10.6), product 11
    projection = 11 / 5
    assert float(linear(x).detach()) == pytest.approx(projection * (projection / 10.6**0.5), rel=1e-9)
    assert float(linear(-x).detach()) == pytest.approx(-projection * (projection / 10.6**0.5), rel=1e-9)


def test_scales_of_input_and_weights() -> None:
    conv = BcosConv2d(3, 4, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    before = conv(x)
    torch.testing.assert_close(conv(100 * x), 100 * before, rtol=1e-4, atol=1e-6)  # up to the 1e-6 in the norm
    conv.linear.weight.data.mul_(7)
    torch.testing.assert_close(conv(x), before)


def test_zero_input_and_zero_filter_give_zero_and_finite_gradients() -> None:
    for layer, shape in (
        (BcosConv2d(2, 3, 3), (1, 2, 4, 4)),
        (BcosLinear(4, 3), (2, 4)),
        (BcosLinear(4, 3, b=3), (2, 4)),
    ):
        layer.linear.weight.data[0] = 0
        for x in (torch.zeros(shape), torch.randn(shape)):
            y = layer(x.requires_grad_())
            y.sum().backward()
            assert torch.isfinite(y).all()
            assert torch.isfinite(x.grad).all()
            assert torch.isfinite(layer.linear.weight.grad).all()
            assert not y.select(1 if y.dim() == 4 else -1, 0).any()


def test_b_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at least 1, not 0\.5"):
        BcosConv2d(1, 1, 1, b=0.5)


def test_batch_norm_scales_by_the_biased_variance_and_keeps_the_mean() -> None:
    norm = BatchNormUncentered2d(3).double().train()
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) + 10
    var = x.transpose(0, 1).flatten(1).var(1, correction=0)
    expected = x * (norm.weight / (var + 1e-5).sqrt())[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    assert float(norm(x).detach().mean()) > 5
    torch.testing.assert_close(norm.running_var, 0.9 * (0.9 + 0.1 * var) + 0.1 * var)
    assert not norm.running_mean.any()
    assert int(norm.num_batches_tracked) == 2
    norm.eval()
    torch.testing.assert_close(norm(x), x * (norm.weight / (norm.running_var + 1e-5).sqrt())[:, None, None])
    assert int(norm.num_batches_tracked) == 2


def test_frozen_batch_norm_neither_uses_nor_updates_batch_statistics() -> None:
    model, images = build("bcos_resnet")
    convert_batchnorm(model.net, "frozen")
    expected = model.eval()(images).logits
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.testing.assert_close(model.train()(images).logits, expected)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_position_embedding_by_hand() -> None:
    embedding = position_embedding(torch.zeros(1, 2, 3, 8, dtype=torch.float64))
    x, y = 2, 1
    row = [math.sin(x), math.sin(x * 1e-4), math.cos(x), math.cos(x * 1e-4),
           math.sin(y), math.sin(y * 1e-4), math.cos(y), math.cos(y * 1e-4)]  # fmt: skip
    torch.testing.assert_close(embedding[y, x], torch.tensor(row, dtype=torch.float64), rtol=1e-12, atol=0)
