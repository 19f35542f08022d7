"""Norms of B-cos nets: they scale, with statistics of the input as dynamic factors, and add no bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guidance.models.layers.statistics import global_statistics
from guidance.models.pullback.dynamic import channel_variance, dynamic, scale_channels
from guidance.models.pullback.rules import Explained, Layer, pick


class BatchNormUncentered2d(Layer):
    """y = weight * x / sqrt(var + eps) for each channel of [B, C, H, W]: neither mean nor bias, so that y = W(x) x.

    `var` is the biased variance about the mean, of the batch in training; unlike in torch's norms the running variance
    takes it without Bessel's correction. `running_mean` is there for the names of the published state dicts, and stays 0.
    `statistics`: "local" (the batch of this process), "sync" (of all processes; in training each must run the layer equally
    often) or "frozen" (always the running variance, never updated); `guidance.models.layers.normalization` sets it.
    """

    dynamic = True
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum, self.statistics = eps, momentum, "local"
        self.weight = nn.Parameter(torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def explain(self, x: Tensor) -> Explained:
        scale = self.weight * dynamic(torch.rsqrt(self._variance(x) + self.eps))
        return scale_channels(x, scale), lambda grad, rows=None: scale_channels(grad, scale)

    def _variance(self, x: Tensor) -> Tensor:
        if not self.training or self.statistics == "frozen":
            return self.running_var
        var = batch_variance(x, sync=self.statistics == "sync")
        self.track(var)
        return var

    @torch.no_grad()
    def track(self, var: Tensor) -> None:
        """Take the variance of a batch into the running one."""
        self.num_batches_tracked.add_(1)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}, statistics={self.statistics}"


def batch_variance(x: Tensor, *, sync: bool) -> Tensor:
    """Biased variance of each channel [C] about its mean, over this process's batch or (`sync`) that of all processes."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return global_statistics(x).var if sync else channel_variance(x)


class SampleNorm(Layer):
    """y = weight * (x - mean) / sqrt(var + eps), with statistics over `dims` of each sample alone.

    `channels` is the dimension that `weight` [num_features] belongs to. Without `centered` the mean is not subtracted, though
    the variance is still about it. The variance (biased) is a dynamic factor; the mean is linear and part of the map.
    """

    dynamic = True

    def __init__(
        self, num_features: int, *, dims: tuple[int, ...], channels: int, centered: bool = True, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.dims, self.channels, self.centered, self.eps = dims, channels, centered, eps
        self.weight = nn.Parameter(torch.ones(num_features))

    def explain(self, x: Tensor) -> Explained:
        weight = self.weight.view(-1, *[1] * (-1 - self.channels))
        std = dynamic(torch.rsqrt(x.var(self.dims, correction=0, keepdim=True) + self.eps))
        y = self._centre(x) * std * weight
        return y, lambda grad, rows=None: self._centre(grad * weight * pick(std, rows))

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(self.dims, keepdim=True) if self.centered else x

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, dims={self.dims}, centered={self.centered}, eps={self.eps}"


def layer_norm(num_features: int) -> SampleNorm:
    """LayerNorm on the last dimension, without bias."""
    return SampleNorm(num_features, dims=(-1,), channels=-1)


def position_norm(num_features: int, *, centered: bool = True) -> SampleNorm:
    """PositionNorm: over the channels at each place of [B, C, H, W]."""
    return SampleNorm(num_features, dims=(-3,), channels=-3, centered=centered)


def image_norm(num_features: int) -> SampleNorm:
    """GroupNorm of one group: over all of each image of [B, C, H, W]."""
    return SampleNorm(num_features, dims=(-3, -2, -1), channels=-3)
