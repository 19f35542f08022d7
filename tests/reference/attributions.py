"""Slow versions of attributions of one image [1, C, h, w] and one class, from finite differences of the logit; and the lens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.reference.maps import Map, cells, positive


def numeric_gradient(model: Any, features: Tensor, depth: str, target: int, eps: float = 1e-5) -> Tensor:
    """Central differences of logit `target` with respect to every entry of the features at `depth`."""
    gradient = torch.zeros_like(features)
    for position in range(features.numel()):
        values = []
        for sign in (1, -1):
            moved = features.detach().clone()
            moved.view(-1)[position] += sign * eps
            with torch.no_grad():
                values.append(float(model.upper(moved, depth).logits[0, target]))
        gradient.view(-1)[position] = (values[0] - values[1]) / (2 * eps)
    return gradient


def ixg(model: Any, features: Tensor, depth: str, target: int) -> Map:
    x, g = features[0].tolist(), numeric_gradient(model, features, depth, target)[0].tolist()
    result = [[0.0] * len(x[0][0]) for _ in x[0]]
    for c in range(len(x)):
        for i, j in cells(result):
            result[i][j] += x[c][i][j] * g[c][i][j]
    return result


def gradcam(model: Any, features: Tensor, depth: str, target: int) -> Map:
    x, g = features[0].tolist(), numeric_gradient(model, features, depth, target)[0].tolist()
    result = [[0.0] * len(x[0][0]) for _ in x[0]]
    for c in range(len(x)):
        weight = sum(g[c][i][j] for i, j in cells(g[c])) / len(cells(g[c]))
        for i, j in cells(result):
            result[i][j] += weight * x[c][i][j]
    return positive(result)


def saliency(model: Any, features: Tensor, depth: str, target: int) -> Map:
    g = numeric_gradient(model, features, depth, target)[0].tolist()
    result = [[0.0] * len(g[0][0]) for _ in g[0]]
    for i, j in cells(result):
        result[i][j] = max(abs(g[c][i][j]) for c in range(len(g)))
    return result


def intgrad(model: Any, features: Tensor, depth: str, target: int, steps: int = 20) -> Map:
    x = features[0].tolist()
    result = [[0.0] * len(x[0][0]) for _ in x[0]]
    for step in range(steps):
        g = numeric_gradient(model, features * ((step + 0.5) / steps), depth, target)[0].tolist()
        for c in range(len(x)):
            for i, j in cells(result):
                result[i][j] += x[c][i][j] * g[c][i][j] / steps
    return result


def gradient_sum(model: Any, features: Tensor, depth: str, target: int) -> Map:
    """The gradient, summed over channels; Guided Backprop of a net without ReLU and GELU is the same."""
    g = numeric_gradient(model, features, depth, target)[0].tolist()
    result = [[0.0] * len(g[0][0]) for _ in g[0]]
    for c in range(len(g)):
        for i, j in cells(result):
            result[i][j] += g[c][i][j]
    return result


def bilinear(small: Map, height: int, width: int) -> Map:
    """Each pixel's value from the four cells around its centre; beyond the border cells, theirs."""
    rows, columns = len(small), len(small[0])
    result = [[0.0] * width for _ in range(height)]
    for i, j in cells(result):
        y = min(max((i + 0.5) * rows / height - 0.5, 0.0), rows - 1.0)
        x = min(max((j + 0.5) * columns / width - 0.5, 0.0), columns - 1.0)
        top, left = int(y), int(x)
        below, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        upper = small[top][left] * (1 - (x - left)) + small[top][right] * (x - left)
        lower = small[below][left] * (1 - (x - left)) + small[below][right] * (x - left)
        result[i][j] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def gradient_gradcam(model: Any, features: Tensor, depth: str, target: int) -> Map:
    """Guided GradCAM of a net without ReLU and GELU."""
    result = gradient_sum(model, features, depth, target)
    with torch.no_grad():
        known = model.upper(features, depth).features
    last = list(known)[-1]
    cam = bilinear(gradcam(model, known[last], last, target), len(result), len(result[0]))
    for i, j in cells(result):
        result[i][j] *= cam[i][j]
    return result


def lens(
    maps: list[Map],
    inverse_temperatures: Sequence[float] = (1, 5, 100),
    *,
    magnitude: bool = False,
    threshold: float = 0.0,
) -> list[Map]:
    """Attribution Lens of one image, cell by cell: softmax over the classes, mean over temperatures, comparison with chance."""
    result = [[[0.0] * len(maps[0][0]) for _ in maps[0]] for _ in maps]
    for i, j in cells(maps[0]):
        values = [a[i][j] for a in maps]
        shares = [0.0] * len(maps)
        for inverse in inverse_temperatures:
            powers = [math.exp(inverse * (abs(v) if magnitude else v)) for v in values]
            for c, power in enumerate(powers):
                shares[c] += power / sum(powers) / len(inverse_temperatures)
        for c, share in enumerate(shares):
            if share - 1 / len(maps) > threshold:
                result[c][i][j] = values[c] * share
    return result


ATTRIBUTIONS: dict[str, Callable[..., Map]] = {
    "ixg": ixg, "bcos": ixg, "gradcam": gradcam, "intgrad": intgrad, "guided_backprop": gradient_sum,
    "guided_gradcam": gradient_gradcam, "saliency": saliency, "gradient": gradient_sum,
}  # fmt: skip
