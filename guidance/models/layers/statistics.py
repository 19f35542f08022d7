"""Statistics of a batch over all processes, differentiable twice; for every norm that synchronises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from guidance import distributed


class GlobalStatistics(NamedTuple):
    """Of each channel of [B, C, H, W], over the images of every process."""

    mean: Tensor  # [C]
    var: Tensor  # [C], biased, about the mean
    centred: Tensor  # this process's values less the mean
    size: Tensor  # [] number of values per channel, over all processes; not differentiated


def global_statistics(x: Tensor) -> GlobalStatistics:
    """Every process must call it equally often, and run its backward equally often."""
    size = x.new_full((1,), x.numel() / x.shape[1])
    sums = distributed.all_reduce_sum(torch.cat((x.sum((0, 2, 3)), size)))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = x - mean[:, None, None]
    # Two passes: the variance of the deviations keeps its digits where mean^2 is much larger than the variance.
    var = distributed.all_reduce_sum((centred * centred).sum((0, 2, 3))) / count
    return GlobalStatistics(mean, var, centred, count)
