"""What one batch of an evaluation leaves: plain tables of numbers, which processes exchange.

`guidance.evaluation.rows` joins them to the rows of a split and documents their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from guidance.evaluation.scores import IOU_THRESHOLDS, epg, iou, seg_epg, x_seg_epg
from guidance.maps import Energy, count_pixels, energy_of, merged_mask, upsample
from guidance.types import Batch, Regions

MERGED = "merged"  # beside the stages of a net that masks its features: where any of its masks is active


@dataclass(frozen=True)
class Scoring:
    """How the maps of a batch are scored.

    `more`: further scores from the energy of upsampled maps and from masks [M, H, W], such as `scores.all_scores`.
    `localization`: a loss of raw maps and masks, which becomes the score "localization".
    """

    thresholds: tuple[float, ...] = IOU_THRESHOLDS  # at which IoU is computed, of the normalised map
    more: Callable[[Energy, Tensor], Mapping[str, Tensor]] | None = None
    localization: Callable[[Tensor, Tensor], Tensor] | None = None


STANDARD = Scoring()


class BatchTables(NamedTuple):
    """The columns of B samples and of R explained (image, class) pairs, on the CPU."""

    samples: dict[str, Tensor]  # column -> [B, ...]
    pairs: dict[str, Tensor]  # column -> [R, ...]
    more: dict[str, Tensor]  # further score -> [R]
    active: dict[str, Tensor]  # stage, MERGED the last of them -> [B]; empty for a net without masks


def collect(
    batch: Batch,
    logits: Tensor,
    attribution: Tensor | None = None,
    masks: Mapping[str, Tensor] = MappingProxyType({}),
    *,
    scoring: Scoring = STANDARD,
) -> BatchTables:
    """The tables of one batch. `logits` [B, K]; `attribution` [M, h, w] raw, of every pair, or None for no maps; `masks`:
    stage -> [B, 1, h, w] in {0, 1}.

    Segmentation scores are 0 for a pair whose segment is empty, and all of them where the batch has no segments.
    """
    regions = batch.regions
    if attribution is None:
        regions = regions.select(regions.image.new_zeros(0))
        attribution = regions.mask.new_zeros(regions.mask.shape, dtype=torch.float32)
    samples = {
        "index": batch.index,
        "logits": logits.detach().double(),
        "targets": batch.targets > 0.5,
        "groups": batch.groups,
    }
    pairs = {"region_index": batch.index[regions.image], "region_target": regions.target}
    raw = attribution.detach()
    energy = energy_of(upsample(raw, (regions.mask.shape[1], regions.mask.shape[2])))
    pairs |= _of_regions(regions) | _of_maps(energy, regions, scoring.thresholds)
    more = {} if scoring.more is None else {n: x.double() for n, x in scoring.more(energy, regions.mask).items()}
    if scoring.localization is not None:
        more["localization"] = scoring.localization(raw, regions.mask).detach().double()
    if masks:
        masks = {**masks, MERGED: merged_mask(masks)}
    active = {stage: mask.detach().flatten(1).double().mean(1) for stage, mask in masks.items()}
    return BatchTables(*({name: x.cpu() for name, x in table.items()} for table in (samples, pairs, more, active)))


def _of_regions(regions: Regions) -> dict[str, Tensor]:
    mask, segment, never = regions.mask, regions.segment, regions.never
    none = mask.new_zeros(len(mask))
    pixels = count_pixels(mask).double()
    return {
        "kind": none.long() if regions.kind is None else regions.kind,
        "area": pixels / (mask.shape[1] * mask.shape[2]),
        "pixels": pixels,
        "has_segment": none if segment is None else segment.flatten(1).any(1),
        "has_never": none if never is None else never.flatten(1).any(1),
    }


def _of_maps(energy: Energy, regions: Regions, thresholds: tuple[float, ...]) -> dict[str, Tensor]:
    mask, segment, never = regions.mask, regions.segment, regions.never
    none = mask.new_zeros(len(mask)).double()
    return {
        "energy": energy.exists,
        "epg": epg(energy, mask).double(),
        "iou": iou(energy, mask, thresholds).double(),
        "seg_epg": none if segment is None else seg_epg(energy, mask, segment).double(),
        "x_seg_epg": none if segment is None else x_seg_epg(energy, segment).double(),
        "never_energy": none if never is None else epg(energy, never).double(),
    }
