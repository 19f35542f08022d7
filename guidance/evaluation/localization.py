"""Where a net looks: scores of its maps, as columns of the rows and as means over them; the active share of its masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from guidance.evaluation.rows import Rows
from guidance.evaluation.scores import ALL_SCORES
from guidance.evaluation.size_bias import normalized_epg
from guidance.evaluation.statistics import mean
from guidance.evaluation.tables import MERGED


class Score(NamedTuple):
    """A number for each explained pair; its mean and its cells of a table are over the pairs that have it."""

    values: Callable[[Rows], Tensor]  # [R]
    defined: Callable[[Rows], Tensor]  # [R] bool


def _more(name: str, rows: Rows) -> Tensor:
    return rows.more.get(name, torch.zeros_like(rows.epg))


def _has_more(name: str, rows: Rows) -> Tensor:
    return rows.located if name in rows.more else torch.zeros_like(rows.located)


SCORES: Mapping[str, Score] = {
    "area": Score(lambda rows: rows.area, lambda rows: rows.located),
    "energy": Score(lambda rows: rows.energy.long(), lambda rows: torch.ones_like(rows.energy)),
    "epg": Score(lambda rows: rows.epg, lambda rows: rows.located),
    "normalized_epg": Score(normalized_epg, lambda rows: rows.located),
    "iou": Score(lambda rows: rows.iou_column(), lambda rows: rows.located),
    "seg_epg": Score(lambda rows: rows.seg_epg, lambda rows: rows.has_seg_epg),
    "x_seg_epg": Score(lambda rows: rows.x_seg_epg, lambda rows: rows.has_segment),
    "never_energy": Score(lambda rows: rows.never_energy, lambda rows: rows.has_never),
} | {name: Score(partial(_more, name), partial(_has_more, name)) for name in ALL_SCORES}


def mean_score(name: str, rows: Rows) -> float:
    """Mean of a score of SCORES over the pairs that have it; NaN if none has."""
    score = SCORES[name]
    return mean(score.values(rows)[score.defined(rows)].tolist())


def zero_maps(rows: Rows) -> float:
    """Share of the maps that have no positive energy; NaN without maps."""
    return mean((~rows.energy).double().tolist())


def fit_iou_threshold(rows: Rows) -> float:
    """The threshold of the highest mean IoU, to be fitted on validation data.

    The lowest of equals; the threshold that the rows already use if they have no pairs. Rao et al. 2023 (Sec. 3.3) and the
    reproduction study (Sec. 3.4) fit it on data that are held out from the selection of checkpoints; the papers do not say
    what is optimised, the highest mean IoU is our choice.
    """
    if not rows.located.any():
        return rows.settings.iou_threshold
    scores = [mean(column) for column in rows.iou[rows.located].T.tolist()]
    return -max((score, -threshold) for score, threshold in zip(scores, rows.settings.thresholds, strict=True))[1]


def describe_fit(val: str, fraction: float) -> str:
    """On what a threshold was fitted, for people: a `fraction` of the split `val` that serves nothing else, or all of it."""
    if fraction > 0:
        return f"fitted on {100 * fraction:g} % of {val}, held out from the selection"
    return f"fitted on all of {val}, which selects too"


def sparsity(rows: Rows) -> float:
    """Share of active cells, as a mean over samples and stages: lower is sparser (AIM, Table 15, in percent there).

    The paper does not say over which masks; `merged_sparsity` is that of the merged ones. NaN for a net without masks.
    """
    return mean([share for stage in _stages(rows) for share in rows.active[stage].tolist()])


def merged_sparsity(rows: Rows) -> float:
    """Share of active cells of the merged masks, as a mean over samples; NaN for a net without masks."""
    return mean(rows.active[MERGED].tolist()) if MERGED in rows.active else math.nan


def stage_sparsity(rows: Rows) -> dict[str, float]:
    """{"sparsity/<stage>": share of active cells of that stage's masks}, in order of the stages."""
    return {f"sparsity/{stage}": mean(rows.active[stage].tolist()) for stage in _stages(rows)}


def _stages(rows: Rows) -> list[str]:
    return [stage for stage in rows.active if stage != MERGED]
