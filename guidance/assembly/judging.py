"""Config and split -> what attribution methods are judged on, and the methods that the net can be judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from guidance.assembly.sets import build_evaluation_dataset
from guidance.attribution import ATTRIBUTIONS, method_of
from guidance.benchmarks import scenes as making
from guidance.benchmarks.class_maps import JudgedMethod
from guidance.benchmarks.class_names import mapped
from guidance.benchmarks.running import device_of
from guidance.benchmarks.scenes import LabelledScene, Look, Pictured, Scenes
from guidance.config import Config
from guidance.data import GuidanceDataset, Source
from guidance.data.source import relative_names
from guidance.models import Classifier, find_backbone
from guidance.types import lookup


@dataclass(frozen=True)
class SceneChoices:
    """What of a split becomes scenes."""

    kind: str = "grid"  # of SCENES
    grid: tuple[int, int] = (2, 2)  # rows, columns
    region: str = "cell"  # of the grid's classes: "cell" or "mask"
    count: int | None = None  # at most as many scenes; None: as many as there are
    seed: int = 0
    confidence: float = 0.0  # probability that a class must reach: in its image (grid, pairs), in the scene (images)
    smallest: float = 0.01  # share of the image that a region must cover ("images")
    full_size: bool = False  # cells as large as the images are, instead of a grid as large as one
    classes: Mapping[int, tuple[int, ...]] | None = None  # class of the split -> classes of the net that mean it


class _Split(NamedTuple):
    """A split as scenes are made of it."""

    source: Source
    dataset: GuidanceDataset
    look: Look
    names: list[str]
    probabilities: Callable[[Tensor], Tensor]  # images [B, C, H, W] -> [B, K]


def build_scenes(config: Config, source: Source, model: Classifier, choices: SceneChoices) -> Scenes:
    """The scenes of a split. Raises ValueError for a kind that the split cannot give, saying what it lacks."""
    dataset = build_evaluation_dataset(config, source)
    names = [name.lstrip("/") for name in relative_names(source.records)[1]]
    device = device_of(model)

    def look(position: int) -> Pictured:
        sample = dataset[0, position]
        masks = sample.masks if sample.segments is None else _finest(sample.masks, sample.segments)
        return Pictured(names[position], sample.image, tuple(sample.classes.tolist()), masks, sample.kept)

    def probabilities(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(images.to(device)).logits.double().cpu()
        return logits.softmax(1) if config.objective.exclusive else logits.sigmoid()

    return lookup(SCENES, choices.kind, "kind of scenes")(_Split(source, dataset, look, names, probabilities), choices)


def _finest(masks: Tensor, segments: Tensor) -> Tensor:
    """The segmentation of a class where it has one, else its boxes."""
    return torch.where(segments.flatten(1).any(1)[:, None, None], segments, masks)


def _of_one_class(split: _Split) -> dict[int, int]:
    """Position -> class, of the images that have one class."""
    return {i: r.classes[0] for i, r in enumerate(split.source.records) if len(r.classes) == 1}


def _confident(split: _Split, labels: Mapping[int, int], choices: SceneChoices, *, batch: int = 32) -> dict[int, int]:
    """Those of the images whose class is the most probable one, with the confidence asked for (Rao et al. 2022: 0.99)."""
    if choices.confidence <= 0:
        return dict(labels)
    positions, kept = sorted(labels), {}
    for start in range(0, len(positions), batch):
        chosen = positions[start : start + batch]
        found = split.probabilities(torch.stack([split.look(i).image for i in chosen]))
        for position, row in zip(chosen, found, strict=True):
            label = labels[position]
            if int(row.argmax()) == label and float(row[label]) >= choices.confidence:
                kept[position] = label
    return kept


def _grid(split: _Split, choices: SceneChoices) -> Scenes:
    rows, columns = choices.grid
    labels = _of_one_class(split)
    if choices.region == "mask":
        labels = {i: label for i, label in labels.items() if label in split.look(i).classes}
    labels = _confident(split, labels, choices)
    side = split.look(next(iter(labels))).image.shape[1:] if labels and choices.full_size else None
    size = None if side is None else (rows * side[0], columns * side[1])
    return making.grids(
        split.look, labels, split.names, rows=rows, columns=columns, size=size, region=choices.region,
        draw=(choices.count, choices.seed),
    )  # fmt: skip


def _pairs(split: _Split, choices: SceneChoices) -> Scenes:
    central = {}
    for position, label in _of_one_class(split).items():
        picture = split.look(position)
        if label in picture.classes and making.is_central(picture.masks[picture.classes.index(label)]):
            central[position] = label
    return making.pairs(
        split.look, _confident(split, central, choices), split.names, draw=(choices.count, choices.seed)
    )


def _images(split: _Split, choices: SceneChoices) -> Scenes:
    positions = [i for i, record in enumerate(split.source.records) if record.box_classes or record.segmentation]
    if not positions:
        raise ValueError(
            f"no image of {split.source.name} {split.source.split} has a box or a segmentation; take a grid"
        )
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(choices.seed)).tolist()
    chosen = sorted(positions[i] for i in order[: choices.count])
    found = making.annotated(split.look, chosen, split.names, smallest=choices.smallest)

    def build(number: int) -> LabelledScene:
        scene = found.build(number)
        probabilities = split.probabilities(scene.image[None])[0]
        if choices.classes is not None:
            scene = mapped(scene, choices.classes, probabilities)
        kept = [i for i, c in enumerate(scene.classes) if float(probabilities[c]) >= choices.confidence]
        return LabelledScene(scene.name, scene.image, tuple(scene.classes[i] for i in kept), scene.regions[kept])

    return Scenes(found.names, build)


SCENES: Mapping[str, Callable[[_Split, SceneChoices], Scenes]] = {"grid": _grid, "pairs": _pairs, "images": _images}


def judged_methods(config: Config, written: Sequence[str]) -> list[JudgedMethod]:
    """Methods as METHOD or METHOD@DEPTH; "all": every one that the net can give, where it explains by default.

    Raises ValueError for an unknown method or depth, and for one that the net cannot give.
    """
    backbone = find_backbone(config.model.name)
    names = list(_every(backbone.traits)) if list(written) == ["all"] else list(written)
    found = []
    for name in names:
        method_name, _, depth = name.partition("@")
        method = method_of(method_name)
        lacks = method.refuses(backbone.traits)
        if lacks:
            raise ValueError(f"{method_name} needs {lacks}, which {config.model.name} is not")
        depth = depth or method.depth
        if depth not in backbone.depths:
            raise ValueError(f"{config.model.name} has no depth {depth!r}; it has {', '.join(backbone.depths)}")
        if reason := method.refuses_depth(depth, backbone.centred):
            raise ValueError(f"{method_name} has no map at depth {depth!r}: {reason}")
        found.append(JudgedMethod(name, method, depth))
    return found


def _every(traits: Sequence[str]) -> Iterator[str]:
    return (name for name, method in ATTRIBUTIONS.items() if not method.refuses(traits))


def scene_settings(choices: SceneChoices, source: Source, root: Path) -> dict[str, object]:
    """What decides the scenes, as plain types."""
    return {
        "scenes": choices.kind, "grid": list(choices.grid), "region": choices.region, "count": choices.count,
        "seed": choices.seed, "confidence": choices.confidence, "smallest": choices.smallest,
        "full_size": choices.full_size, "mapped": choices.classes is not None, "data": source.name,
        "split": source.split, "root": str(root.resolve()),
    }  # fmt: skip
