"""Slow versions of every loss, score, metric and attribution: loops in float64, straight from the definitions.

Maps and masks are tensors [h, w] or nested lists; nothing here is batched, and nothing is shared with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Map = list[list[float]]


def as_map(values: Any) -> Map:
    rows = values.tolist() if isinstance(values, Tensor) else values
    return [[float(v) for v in row] for row in rows]


def cells(a: Map) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(a)) for j in range(len(a[0]))]


# Maps


def upsample(a: Any, height: int, width: int) -> Map:
    """Bilinear interpolation, align_corners False: pixel centres at (i + 1/2), borders repeated."""
    a = as_map(a)
    h, w = len(a), len(a[0])
    result = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * h / height - 0.5, 0.0)
            x = max((j + 0.5) * w / width - 0.5, 0.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            dy, dx = y - y0, x - x0
            top = a[y0][x0] * (1 - dx) + a[y0][x1] * dx
            bottom = a[y1][x0] * (1 - dx) + a[y1][x1] * dx
            result[i][j] = top * (1 - dy) + bottom * dy
    return result


def positive(a: Map) -> Map:
    return [[max(v, 0.0) for v in row] for row in a]


def positive_energy(a: Map) -> Map:
    return positive(a) if has_energy(a) else [[0.0] * len(a[0]) for _ in a]


def divided_by_peak(a: Map) -> Map:
    peak = max(abs(a[i][j]) for i, j in cells(a))
    return [[v / peak if peak > 0 else 0.0 for v in row] for row in a]


def has_energy(a: Any) -> bool:
    a = as_map(a)
    return sum(max(a[i][j], 0.0) for i, j in cells(a)) > 1e-7 * sum(abs(a[i][j]) for i, j in cells(a))


# Losses of one map [h, w] and one mask [H, W]


def energy(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    return 1 - epg(upsample(a, len(mask), len(mask[0])), mask)


def energy_star(a: Any, mask: Any, alpha: float = 0.5, area: str = "pixels") -> float:
    mask = as_map(mask)
    size = float(max(sum(mask[i][j] for i, j in cells(mask)), 1))
    if area == "fraction":
        size /= len(mask) * len(mask[0])
    return 1 - epg(upsample(a, len(mask), len(mask[0])), mask) / size**alpha


def l1(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(positive_energy(as_map(a))), len(mask), len(mask[0]))
    return sum(abs(u[i][j] - mask[i][j]) for i, j in cells(u)) / (len(mask) * len(mask[0]))


def ppce(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(positive_energy(as_map(a))), len(mask), len(mask[0]))
    inside = [u[i][j] for i, j in cells(u) if mask[i][j]]
    return sum(-math.log(min(max(v, 1e-6), 1.0)) for v in inside) / len(inside) if inside else 0.0


def rrr(a: Any, mask: Any) -> float:
    mask = as_map(mask)
    u = upsample(divided_by_peak(as_map(a)), len(mask), len(mask[0]))
    return sum(u[i][j] ** 2 for i, j in cells(u) if not mask[i][j])


LOSSES: dict[str, Callable[[Any, Any], float]] = {
    "energy": energy, "l1": l1, "ppce": ppce, "rrr": rrr, "energy_star": energy_star,
}  # fmt: skip


# Scores of one upsampled map [H, W]


def epg(a: Any, mask: Any) -> float:
    a, mask = as_map(a), as_map(mask)
    total = inside = 0.0
    for i, j in cells(a):
        total += max(a[i][j], 0.0)
        inside += max(a[i][j], 0.0) * mask[i][j]
    return inside / total if has_energy(a) else 0.0


def iou(a: Any, mask: Any, threshold: float) -> float:
    a, mask = as_map(a), as_map(mask)
    p = positive_energy(a)
    high, low = max(map(max, p)), min(map(min, p))
    both = either = 0
    for i, j in cells(p):
        if high == 0:
            value = 0.0
        elif high - low <= 1e-6 * high:
            value = p[i][j] / high
        else:
            value = (p[i][j] - low) / (high - low)
        active, wanted = value > threshold, mask[i][j] > 0
        both += active and wanted
        either += active or wanted
    return both / either if either else 0.0


def seg_epg(a: Any, mask: Any, segment: Any) -> float:
    a, mask, segment = as_map(a), as_map(mask), as_map(segment)
    box = sum(max(a[i][j], 0.0) for i, j in cells(a) if mask[i][j])
    both = sum(max(a[i][j], 0.0) for i, j in cells(a) if mask[i][j] and segment[i][j])
    return both / box if box > 0 and has_energy(a) else 0.0


def x_seg_epg(a: Any, segment: Any) -> float:
    a, segment = as_map(a), as_map(segment)
    total = sum(max(a[i][j], 0.0) for i, j in cells(a))
    return sum(max(a[i][j], 0.0) for i, j in cells(a) if segment[i][j]) / total if has_energy(a) else 0.0


def mirrored(place: int, size: int) -> int:
    """Walk back from the border without standing on it twice: ... 2 1 0 1 2 ..."""
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
        if size == 1:
            return 0
    return place


def blur(a: Any, sigma: float) -> Map:
    """A Gaussian of 11 x 11 pixels, all at once, mirrored at the border."""
    a = as_map(a)
    weights = {(y, x): math.exp(-(y * y + x * x) / (2 * sigma**2)) for y in range(-5, 6) for x in range(-5, 6)}
    result = [[0.0] * len(a[0]) for _ in a]
    for i, j in cells(a):
        for (y, x), weight in weights.items():
            result[i][j] += weight * a[mirrored(i + y, len(a))][mirrored(j + x, len(a[0]))] / sum(weights.values())
    return result


def region_attribution(a: Any, mask: Any, sigma: float = 2.0) -> float:
    blurred = blur(positive_energy(as_map(a)), sigma)
    total = sum(blurred[i][j] for i, j in cells(blurred))
    inside = sum(blurred[i][j] for i, j in cells(blurred) if as_map(mask)[i][j])
    return inside / total if has_energy(a) else 0.0


def pixel_scores(a: Any, mask: Any, threshold: float = 0.0) -> dict[str, float]:
    p, mask = positive_energy(as_map(a)), as_map(mask)
    limit = threshold * max(map(max, p))
    hits = sum(p[i][j] > limit and mask[i][j] > 0 for i, j in cells(p))
    missed = sum(p[i][j] <= limit and mask[i][j] > 0 for i, j in cells(p))
    wrong = sum(p[i][j] > limit and not mask[i][j] for i, j in cells(p))
    return {
        "pixel_precision": hits / (hits + wrong) if hits + wrong else 0.0,
        "pixel_recall": hits / (hits + missed) if hits + missed else 0.0,
        "pixel_f1": 2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else 0.0,
        "pixel_iou": hits / (hits + wrong + missed) if hits + wrong + missed else 0.0,
    }


# Metrics of a split: logits and targets as [N][K] lists


def decisions(logits: Map, decision: str) -> list[list[bool]]:
    if decision == "threshold":
        return [[v >= 0 for v in row] for row in logits]
    return [[k == row.index(max(row)) for k in range(len(row))] for row in logits]


def micro(logits: Map, targets: Map, decision: str) -> dict[str, float]:
    predicted = decisions(logits, decision)
    tp = fp = fn = 0
    for row, truth in zip(predicted, targets, strict=True):
        for p, t in zip(row, truth, strict=True):
            tp += p and t > 0
            fp += p and not t > 0
            fn += (not p) and t > 0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan
    precision = tp / (tp + fp) if tp + fp else (0.0 if fn else math.nan)
    return {"f1": f1, "precision": precision, "recall": tp / (tp + fn) if tp + fn else math.nan}


def average_precision(scores: Sequence[float], targets: Sequence[float]) -> float:
    """Sum over the distinct scores, from the highest, of (gain in recall) x precision of "at least this score"."""
    total, recall, result = sum(targets), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, targets, strict=True) if s >= threshold]
        result += (sum(chosen) / total - recall) * sum(chosen) / len(chosen)
        recall = sum(chosen) / total
    return result


def mean_average_precision(logits: Map, targets: Map, decision: str) -> float:
    if decision == "argmax":
        logits = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits]
    values = [
        average_precision([row[k] for row in logits], [row[k] for row in targets])
        for k in range(len(targets[0])) if sum(row[k] for row in targets)
    ]  # fmt: skip
    return sum(values) / len(values) if values else math.nan


def correct(logits: Map, targets: Map, decision: str, single_label: bool) -> list[float]:
    if single_label:
        return [float(truth[row.index(max(row))] > 0) for row, truth in zip(logits, targets, strict=True)]
    predicted = decisions(logits, decision)
    return [
        sum(p == (t > 0) for p, t in zip(row, truth, strict=True)) / len(row)
        for row, truth in zip(predicted, targets, strict=True)
    ]


# Attributions of one image [1, C, h, w] and one class, from finite differences of the logit


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
    """Guided Backprop of a net without ReLU and GELU: the plain gradient, summed over channels."""
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


ATTRIBUTIONS: dict[str, Callable[..., Map]] = {
    "ixg": ixg, "bcos": ixg, "gradcam": gradcam, "intgrad": intgrad, "guided_backprop": gradient_sum,
    "guided_gradcam": gradient_gradcam,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ AIM


def enlarged(a: Tensor, height: int, width: int) -> Tensor:
    """[C, h, w] by nearest neighbours: cell (i, j) is taken from (floor(i h / height), floor(j w / width))."""
    h, w = a.shape[1:]
    out = a.new_zeros((a.shape[0], height, width))
    for i in range(height):
        for j in range(width):
            out[:, i, j] = a[:, i * h // height, j * w // width]
    return out


def slow_top_down(stages: dict[str, tuple[Tensor, Tensor | None]]) -> tuple[Tensor, dict[str, Tensor]]:
    """AIM, Eq. 3 and Fig. 2, image by image. Stage -> (T(S) [B, F, h, w], its mask [B, 1, h, w], or None: the next one's)."""
    masks: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    fused = []
    for b in range(len(next(iter(stages.values()))[0])):
        total = mask = None
        for stage, (features, own) in reversed(stages.items()):
            height, width = features.shape[2:]
            mask = own[b] if own is not None else enlarged(mask, height, width)  # type: ignore[arg-type]
            masks[stage].append(mask)
            sparse = features[b].clone()
            for i in range(height):
                for j in range(width):
                    sparse[:, i, j] *= mask[0, i, j]
            total = sparse if total is None else sparse + enlarged(total, height, width)
        assert total is not None
        fused.append(total)
    return torch.stack(fused), {stage: torch.stack(found) for stage, found in masks.items()}


def slow_merged_mask(masks: dict[str, Tensor]) -> Tensor:
    """Cells that any mask leaves active, [B, 1, h, w] at the size of the first stage's; enlarged stage by stage."""
    result = []
    for b in range(len(next(iter(masks.values())))):
        merged = None
        for mask in reversed(masks.values()):
            height, width = mask.shape[2:]
            below = None if merged is None else enlarged(merged, height, width)
            merged = mask[b].clone()
            for i in range(height):
                for j in range(width):
                    if below is not None and below[0, i, j] > 0:
                        merged[0, i, j] = 1
        assert merged is not None
        result.append(merged)
    return torch.stack(result)
