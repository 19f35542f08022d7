"""The gallery of the report: the same images with the maps of several runs, and the masks of a run over its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from guidance.data import Source, to_display
from guidance.evaluation.scores import epg
from guidance.pictures.overlays import colour_scale
from guidance.pictures.probe import Probe
from guidance.results.html.images import cells_layer, greyed, map_layer, outline_layer, photograph

NAMES = 3  # predicted classes that a caption has room for


class Answer(NamedTuple):
    """What a net says about an image."""

    text: str  # its classes with their probabilities
    right: bool  # whether these are the labels


class Explained(NamedTuple):
    """What a run says about the images of a probe."""

    maps: Tensor  # [B, H, W] signed, raw
    answers: Sequence[Answer]  # B


def answers(logits: Tensor, targets: Tensor, classes: Sequence[str], *, exclusive: bool) -> list[Answer]:
    """The decision for each image, from `logits` [B, K], beside whether `targets` [B, K] agree.

    `exclusive`: the class of the largest logit, with its softmax; else all classes whose logit is not negative, as in
    `Rows.decisions`, with their sigmoid.
    """
    found = []
    for row, labels in zip(logits.double().cpu(), targets.cpu() > 0, strict=True):
        share = row.softmax(0) if exclusive else row.sigmoid()
        chosen = torch.zeros_like(labels).scatter(0, row.argmax(0, keepdim=True), True) if exclusive else row >= 0
        names = [k for k in share.argsort(descending=True).tolist() if chosen[k]]
        shown = ", ".join(f"{classes[k]} {share[k]:.2f}" for k in names[:NAMES])
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        right = bool(labels[chosen].any()) if exclusive else bool((chosen == labels).all())
        found.append(Answer(f"{shown or 'no class'}{more}", right))
    return found


def describe_gallery(probe: Probe, source: Source, explained: Mapping[str, Explained]) -> list[dict[str, Any]]:
    """A row for each image of the probe: the image, and the map and caption of each run, on one scale over the runs."""
    batch, images = probe.batch, to_display(probe.batch.images, probe.encoding)
    regions = batch.regions
    rows = []
    for n, target in enumerate(regions.target.tolist()):
        record, mask, group = source.records[int(batch.index[n])], regions.mask[n], int(batch.groups[n])
        scale = colour_scale([each.maps[n] for each in explained.values()])
        cells = {}
        for run, each in explained.items():
            score = float(epg(each.maps[n : n + 1], mask[None])) if mask.any() else None
            answer = each.answers[n]
            cells[run] = {
                "map": map_layer(each.maps[n], scale), "epg": None if score is None else round(score, 3),
                "says": answer.text, "right": answer.right,
            }  # fmt: skip
        rows.append({
            "name": record.path.name, "class": probe.classes[target], "group": group if group >= 0 else None,
            "image": photograph(images[n]), "grey": greyed(images[n]), "outline": outline_layer(mask), "cells": cells,
        })  # fmt: skip
    return rows


def describe_strip(masks: Mapping[int, Tensor], count: int) -> dict[str, Any]:
    """The merged masks of a run: for each epoch, those of the first `count` images of the gallery.

    `masks`: epoch -> [B, 1, h, w] in {0, 1}.
    """
    epochs = sorted(masks)
    return {
        "epochs": epochs,
        "rows": [
            [
                {"mask": cells_layer(masks[e][n, 0]), "active": round(float(masks[e][n, 0].double().mean()), 3)}
                for e in epochs
            ]
            for n in range(min(count, len(masks[epochs[0]])))
        ],
    }


def worst_group(names: Sequence[str], metrics: Sequence[Mapping[str, float]]) -> tuple[int, float] | None:
    """The group of the lowest accuracy, the mean over runs, with it; None where no group has one."""
    means = []
    for number, name in enumerate(names):
        found = [each.get(f"accuracy_group/{name}", float("nan")) for each in metrics]
        known = [value for value in found if value == value]
        if known:
            means.append((sum(known) / len(known), number))
    return (min(means)[1], min(means)[0]) if means else None
