"""Batch normalisation as a choice: statistics of the process, of all processes, or frozen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.bcos.norms import BatchNormUncentered2d
from guidance.models.layers.statistics import global_statistics
from guidance.types import lookup


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Always normalises with the running statistics and never updates them; weight and bias are still trained."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Statistics of the global batch, so that the number of processes changes nothing.

    Written with differentiable operations because torch's SyncBatchNorm has no double backward, which a loss on
    attributions needs. In training every process must run it equally often, forward and backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._normalize(x if x.dtype == torch.float64 else x.float()).to(x.dtype)

    def _normalize(self, x: Tensor) -> Tensor:
        mean, var, centred, count = global_statistics(x)
        self._track(mean.detach(), var.detach() * count / (count - 1).clamp_min(1))
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = centred * scale[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), momentum)


BATCHNORMS: Mapping[str, type[nn.BatchNorm2d]] = {
    "local": nn.BatchNorm2d,
    "sync": SyncBatchNorm2d,
    "frozen": FrozenBatchNorm2d,
}


def convert_batchnorm(net: nn.Module, mode: str) -> nn.Module:
    """Replace every BatchNorm2d of `net`, in place, keeping weights, statistics and their names; returns `net`.

    The batch norms of B-cos nets stay and change their statistics.

    `mode`: "local" (statistics of this process's batch), "sync" (of all processes), "frozen" (running statistics). Raises
    ValueError for a subclass with a forward of its own (timm's norms with activations), which can only be "local".
    """
    kind = lookup(BATCHNORMS, mode, "model.batchnorm")
    own = {norm.forward for norm in BATCHNORMS.values()}
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and type(child).forward not in own:
                if mode != "local":
                    raise ValueError(
                        f"model.batchnorm: the norm {name!r} is a {type(child).__name__}, which does more than a BatchNorm2d "
                        f"and cannot be made {mode!r}; replace it in the net, or keep it 'local'"
                    )
            elif isinstance(child, nn.BatchNorm2d) and type(child) is not kind:
                setattr(parent, name, _as(child, kind))
            elif isinstance(child, BatchNormUncentered2d):
                child.statistics = mode
    return net


def _as(norm: nn.BatchNorm2d, kind: type[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new.load_state_dict(norm.state_dict())
    return new.train(norm.training)
