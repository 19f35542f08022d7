"""Draws that belong to samples: uniform, independent of batch and process, all different where anything differs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from guidance.models.layers.noise import Dropout, DropPath, convert_drop_path, keyed, sample_keys, uniform

INDEX = torch.arange(64)


def splitmix(state: int) -> int:
    """SplitMix64's finalizer on Python integers."""
    z, mask = state & (2**64 - 1), 2**64 - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_the_hash_is_that_of_splitmix64() -> None:
    """The first two outputs of the reference implementation for seed 1234567 are the published ones; ours hashes alike."""
    golden = 0x9E3779B97F4A7C15
    assert [splitmix(1234567 + golden), splitmix(1234567 + 2 * golden)] == [6457827717110365317, 3203168211198807973]
    key = torch.tensor([-(2**62) + 12345])
    root = splitmix(int(key) + 1 * 0x5DEECE66D)
    expected = [(splitmix(root + k * golden) >> 41) + 0.5 for k in (1, 2, 3)]
    assert uniform(key, 0, (3,)).tolist() == [[value / 2**23 for value in expected]]


def test_draws_are_uniform_and_logs_finite() -> None:
    draws = uniform(sample_keys(0, 0, torch.arange(400)), 0, (1, 25, 25)).double()
    assert 0 < float(draws.min()) < 1e-4
    assert 1 - 1e-4 < float(draws.max()) < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=2e-3)
    assert float(draws.var()) == pytest.approx(1 / 12, abs=1e-3)
    # Neither neighbours in a map nor the same cell of two samples have anything to do with each other.
    centred = draws - 0.5
    assert abs(float((centred[..., 1:] * centred[..., :-1]).mean())) < 1e-3
    assert abs(float((centred[1:] * centred[:-1]).mean())) < 1e-3
    edge = torch.tensor([0.5, 2**23 - 0.5]) / 2**23  # the smallest and the largest draw
    assert torch.isfinite(edge.log()).all()
    assert torch.isfinite(torch.log1p(-edge)).all()


def test_draws_belong_to_the_sample() -> None:
    keys = sample_keys(3, 5, INDEX)
    whole = uniform(keys, 2, (4, 4))
    assert torch.equal(uniform(keys[10:20], 2, (4, 4)), whole[10:20])
    assert torch.equal(sample_keys(3, 5, INDEX.flip(0)), keys.flip(0))
    others = [
        sample_keys(4, 5, INDEX),
        sample_keys(3, 6, INDEX),
        sample_keys(3, 5, INDEX + 64),
        sample_keys(5, 3, INDEX),
    ]
    everything = torch.cat([keys, *others])
    assert len(everything.unique()) == len(everything)
    for k in (*others, keys):
        for stream in (2, 3) if k is not keys else (0, 3):
            assert abs(float(((uniform(k, stream, (4, 4)) - 0.5) * (whole - 0.5)).mean())) < 0.01


def test_layers_draw_by_keys_and_apart() -> None:
    net = nn.ModuleList([Dropout(0.5), Dropout(0.5)]).train()
    x, keys = torch.ones(64, 50), sample_keys(0, 0, INDEX)
    with keyed(net, keys):
        first, second = net[0](x), net[1](x)
        again = net[0](x)
        with pytest.raises(ValueError, match="64 sample keys for a batch of 3 images"):
            net[0](x[:3])
    assert torch.equal(first, again)
    assert 0.4 < float((first != second).float().mean()) < 0.6
    with keyed(net, keys[7:9]):
        assert torch.equal(net[0](x[7:9]), first[7:9])
    assert not torch.equal(net[0](x), net[0](x)), "without keys, torch's generator is asked"
    assert torch.equal(net.eval()[0](x), x)


def test_dropout_keeps_the_mean() -> None:
    x, keys = torch.ones(500, 40), sample_keys(0, 0, torch.arange(500))
    for layer, rows in ((Dropout(0.3).train(), False), (DropPath(0.3).train(), True)):
        with keyed(layer, keys):
            y = layer(x)
        assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert float(y.mean()) == pytest.approx(1, abs=0.08)
        assert bool((y == y[:, :1]).all()) == rows
    assert Dropout(1.0).train()(x).abs().sum() == 0


def test_stochastic_depth_is_replaced() -> None:
    from torchvision.ops import StochasticDepth

    net = convert_drop_path(nn.Sequential(StochasticDepth(0.25, "row"), nn.Sequential(StochasticDepth(0.5, "batch"))))
    assert isinstance(net[0], DropPath)
    assert net[0].p == 0.25
    assert isinstance(net[1][0], StochasticDepth), "whole batches are no business of samples"
