"""Random numbers that belong to a sample, not to a process: the same whichever process, batch or chunk it lies in.

A draw is a hash of the sample's key and of a counter, so it needs no generator, whose state would have to be saved and would
differ between processes. Layers that draw are `Keyed`; `keyed(net, keys)` tells all of them whose draws they make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685  # of SplitMix64, signed


def sample_keys(seed: int, epoch: int, index: Tensor) -> Tensor:
    """[B] long keys of the samples `index` [B] in an epoch of a run: equal only for equal arguments."""
    # A number of the host, so that no step copies anything to the device of `index`.
    root = int(_mix(_mix(torch.tensor(seed)) + epoch))
    return _mix(index * _GOLDEN + root)


def uniform(keys: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Draws [B, *shape] in float32, uniform on the open interval (0, 1), one row for each of `keys` [B].

    `stream` separates the draws of different layers. Every draw is a multiple of 2**-24, so that 1 - u is exact and
    both log(u) and log(1 - u) are finite (SplitMix64: Steele et al. 2014, "Fast splittable pseudorandom number generators").
    """
    count = torch.Size(shape).numel()
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    bits = _mix(_mix(keys + (stream + 1) * 0x5DEECE66D)[:, None] + counter)
    top = (bits >> 41) & 0x7FFFFF  # 23 bits
    return ((top.float() + 0.5) / 2**23).view(len(keys), *shape)


def _mix(z: Tensor) -> Tensor:
    """The finalizer of SplitMix64 on int64, whose products wrap around as those of uint64 do."""
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


class Keyed(nn.Module):
    """A layer that draws; without keys it asks torch's generator."""

    stream: int = 0
    keys: Tensor | None = None

    def draw(self, rows: int, shape: Sequence[int], device: torch.device) -> Tensor:
        """[rows, *shape] float32, uniform on the open interval (0, 1)."""
        if self.keys is None:
            return torch.rand((rows, *shape), device=device).clamp(2**-24, 1 - 2**-24)
        if len(self.keys) != rows:
            raise ValueError(f"{len(self.keys)} sample keys for a batch of {rows} images; give one key for each image")
        return uniform(self.keys, self.stream, shape)


@contextmanager
def keyed(net: nn.Module, keys: Tensor | None) -> Iterator[None]:
    """Inside, every `Keyed` layer of `net` draws by `keys` [B]; each has a stream of its own."""
    layers = [module for module in net.modules() if isinstance(module, Keyed)]
    try:
        for stream, layer in enumerate(layers):
            layer.stream, layer.keys = stream, keys
        yield
    finally:
        for layer in layers:
            layer.keys = None


class Dropout(Keyed):
    """Each value is zero with probability `p` in training, and the others are scaled by 1 / (1 - p). x [B, ...]."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = self.draw(len(x), self.shape(x), x.device) >= self.p
        # p of 1 drops everything, and nothing is divided by zero.
        return x * kept.to(x.dtype) / max(1 - self.p, 1e-6)

    def shape(self, x: Tensor) -> Sequence[int]:
        return x.shape[1:]

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropPath(Dropout):
    """Drops a whole sample of a residual branch (stochastic depth, Huang et al. 2016)."""

    def shape(self, x: Tensor) -> Sequence[int]:
        return (1,) * (x.dim() - 1)


def convert_drop_path(net: nn.Module) -> nn.Module:
    """Replace torchvision's StochasticDepth per row in `net`, in place, by `DropPath`; returns `net`."""
    from torchvision.ops import StochasticDepth

    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StochasticDepth) and child.mode == "row":
                setattr(parent, name, DropPath(child.p))
    return net
