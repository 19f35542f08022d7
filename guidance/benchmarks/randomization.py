"""Cascading randomisation: does a map change when the net forgets what it has learned?

Adebayo et al. 2018; Attribution Lens, Sec. 4.3 and Fig. 6: parameters are drawn anew from the output to the input, and maps are
compared with those of the trained net. Lower is better.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

FRACTIONS = tuple(i / 10 for i in range(1, 11))  # of the layers that have parameters; the paper's axis


def layers(model: nn.Module) -> list[str]:
    """Names of the modules with parameters of their own, from the output to the input."""
    return [name for name, module in model.named_modules() if list(module.parameters(recurse=False))][::-1]


def randomized(model: nn.Module, fraction: float, *, seed: int = 0) -> nn.Module:
    """A copy of `model` whose last ceil(`fraction` of the layers) have fresh weights; `model` is left as it is.

    A layer that knows its initialisation (`reset_parameters`) draws from it; parameters of others (class tokens, layer scales)
    are drawn from a normal distribution of their own mean and standard deviation. The draw depends on `seed` and the layer
    alone: a larger fraction has the same weights in the layers that a smaller one has drawn. Raises ValueError for a
    fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of the layers is in [0, 1], not {fraction}")
    changed = copy.deepcopy(model)
    names = layers(changed)
    modules = dict(changed.named_modules())
    for number, name in enumerate(names[: math.ceil(fraction * len(names) - 1e-9)]):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed * 100_003 + number)
            _reset(modules[name])
    return changed


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
        drawn = torch.randn(parameter.shape, dtype=torch.float64) * (spread or 1.0) + float(parameter.mean())
        parameter.copy_(drawn.to(parameter))


def similarity(first: Tensor, second: Tensor) -> dict[str, float]:
    """{"spearman", "pearson", "cosine"} in [-1, 1] of two maps [H, W]; NaN where one of them is constant (or zero, cosine)."""
    from scipy import stats

    a, b = (x.detach().double().flatten().cpu().numpy() for x in (first, second))
    varies = bool(a.max() > a.min() and b.max() > b.min())
    norm = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return {
        "spearman": float(stats.spearmanr(a, b).statistic) if varies else math.nan,
        "pearson": float(stats.pearsonr(a, b).statistic) if varies else math.nan,
        "cosine": float(a @ b) / norm if norm > 0 else math.nan,
    }


def compare(
    refined: Callable[[nn.Module], Mapping[str, Tensor]], model: nn.Module, copies: Mapping[float, nn.Module],
    scenes: Sequence[tuple[str, Sequence[int]]],
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each scene, variant and fraction: the similarity of the map of the scene's first class before and after.

    `refined`: net -> variant -> maps [C', B, H, W]; `copies`: fraction -> the net with as many layers drawn anew; `scenes`:
    name and classes of each of the B images, the first of which is explained.
    """
    before = refined(model)
    rows: list[dict[str, Any]] = []
    for fraction, changed in copies.items():
        after = refined(changed)
        for variant, maps in before.items():
            for i, (name, classes) in enumerate(scenes):
                found = similarity(maps[0, i], after[variant][0, i])
                rows.append({"scene": name, "class": classes[0], "variant": variant, "randomized": fraction, **found})
    return rows
