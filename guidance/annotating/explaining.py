"""What a net makes of one image with its boxes: prediction, map and scores."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image as Pillow
from torch import Tensor

from guidance.annotating.document import EditedBox
from guidance.annotating.ordering import ImageScores
from guidance.assembly import build_attribution, build_eval_transform
from guidance.assembly.sets import encoding
from guidance.attribution import explain_classes
from guidance.data import GuidanceDataset, Record, RegionOptions, Source, to_display
from guidance.inference import Run
from guidance.maps import energy_inside, upsample
from guidance.pictures.overlays import overlay, to_uint8

SHOWN = 5  # most probable classes that are told


class ClassMap(NamedTuple):
    """The map of a class of an image."""

    name: str
    epg: float  # NaN where the class has no box
    outside: float
    picture: bytes  # PNG of the map over the net's input


@dataclass(frozen=True)
class ImageExplanation:
    """What a net makes of an image."""

    predictions: tuple[tuple[str, float], ...]  # the most probable classes, with their probabilities
    maps: tuple[
        ClassMap, ...
    ]  # of the classes that have boxes; else of those that the image shows, else of the most probable
    picture: bytes  # PNG of the net's input, without a map
    scores: ImageScores


class Explainer:
    """Explains images of a set by a run; `classes` are those of the set. Classes are matched by their names.

    ValueError where the run knows none of the classes.
    """

    def __init__(self, run: Run, classes: Sequence[str], *, displayed: bool = False) -> None:
        self._run, self._displayed = run, displayed
        numbers = {name: number for number, name in enumerate(run.classes)}
        self._number = {label: numbers[name] for label, name in enumerate(classes) if name in numbers}
        if not self._number:
            raise ValueError(
                f"the run knows {', '.join(run.classes)}, and the set {', '.join(classes)}: no class is in both"
            )
        self._method, self._depth = build_attribution(run.config)

    def __call__(self, path: Path, boxes: Sequence[EditedBox], labels: Sequence[int]) -> ImageExplanation:
        """What the net makes of an image with these boxes, which shows the classes `labels`. ValueError as reading raises."""
        image, masks = self._sample(path, boxes, labels)
        with torch.no_grad():
            logits = self._run.model(image[None]).logits[0].double().cpu()
        exclusive = self._run.config.objective.exclusive
        probabilities = logits.softmax(0) if exclusive else logits.sigmoid()
        most = probabilities.argsort(descending=True).tolist()
        chosen = list(masks) or [self._number[k] for k in labels if k in self._number] or most[:1]
        shown = to_display(image[None].cpu(), encoding(self._run.config))[0]
        maps = [self._map(image, shown, number, masks.get(number)) for number in chosen]
        known = [each for each in maps if not math.isnan(each.epg)]
        scores = ImageScores(
            min((each.epg for each in known), default=math.nan),
            max((each.outside for each in known), default=math.nan),
            float(probabilities.max() if exclusive else torch.maximum(probabilities, 1 - probabilities).min()),
        )
        names = self._run.classes
        told = tuple((names[number], float(probabilities[number])) for number in most[:SHOWN])
        return ImageExplanation(told, tuple(maps), _png(to_uint8(shown.permute(1, 2, 0).double().numpy())), scores)

    def _sample(
        self, path: Path, boxes: Sequence[EditedBox], labels: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The net's input [C, H, W], and where evidence may lie [H, W] of each class that has a box."""
        usable = [(box, self._number[box.label]) for box in boxes if box.label in self._number]
        allowed, never = ([(b.box, k) for b, k in usable if b.never == flag] for flag in (False, True))
        shown = {self._number[k] for k in labels if k in self._number} | {k for _, k in allowed}
        record = Record(
            path=path, classes=tuple(sorted(shown)) or (0,),
            boxes=tuple(box for box, _ in allowed), box_classes=tuple(k for _, k in allowed),
            never_boxes=tuple(box for box, _ in never), never_classes=tuple(k for _, k in never),
        )  # fmt: skip
        config = self._run.config
        source = Source(
            "custom",
            "page",
            self._run.classes,
            (record,),
            False,
            displayed=self._displayed,
            crop=config.evaluation.crop,
        )
        regions = RegionOptions(region="box")
        sample = GuidanceDataset(source, build_eval_transform(config), training=False, regions=regions)[0, 0]
        device = next(self._run.model.parameters()).device
        return sample.image.to(device), dict(zip(sample.classes.tolist(), sample.masks, strict=True))

    def _map(self, image: Tensor, shown: Tensor, number: int, mask: Tensor | None) -> ClassMap:
        target = torch.tensor([[number]], device=image.device)
        raw = explain_classes(
            self._run.model, image[None], lambda _: target, method=self._method, depth=self._depth
        ).maps
        values = upsample(raw.detach().float().cpu(), (image.shape[1], image.shape[2]))
        epg = outside = math.nan
        if mask is not None:
            positive = values.clamp(min=0)
            total, inside = float(positive.sum()), float(energy_inside(positive, mask[None])[0])
            epg, outside = (inside / total if total > 0 else 0.0), total - inside
        return ClassMap(self._run.classes[number], epg, outside, _png(overlay(shown, values[0])))


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
