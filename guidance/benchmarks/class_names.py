"""Classes of one data set as those of a net that was trained on another: COCO under nets of ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

import yaml
from torch import Tensor

from guidance.benchmarks.scenes import LabelledScene


def read_classes(name: str, ours: Sequence[str], nets: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Position in `ours` -> positions in `nets` of the classes that mean the same, from the file `name`.yaml beside this one.

    Classes without a counterpart are left out. Raises ValueError where the net lacks a class of the file, so that a table of
    wrong positions, as the published one, cannot be made.
    """
    text = (resources.files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")
    table: Mapping[str, Sequence[str] | None] = yaml.safe_load(text)["classes"]
    places = {known: i for i, known in enumerate(nets)}
    unknown = [c for classes in table.values() for c in classes or () if c not in places]
    if unknown:
        raise ValueError(f"{name}.yaml names {unknown[0]!r}, which is no class of this net of {len(nets)} classes")
    return {i: tuple(places[c] for c in table.get(known) or ()) for i, known in enumerate(ours) if table.get(known)}


def mapped(scene: LabelledScene, classes: Mapping[int, tuple[int, ...]], probabilities: Tensor) -> LabelledScene:
    """The scene with the net's classes: of those that mean a class, the most probable one; the others are left out.

    `probabilities` [K] of the scene's image. Where two classes of the scene mean the same to the net, their regions are joined.
    """
    regions: dict[int, Tensor] = {}
    for known, region in zip(scene.classes, scene.regions, strict=True):
        if known in classes:
            chosen = max(classes[known], key=lambda c: float(probabilities[c]))
            regions[chosen] = regions[chosen] | region if chosen in regions else region
    names = tuple(regions)
    joined = scene.regions[:0].clone() if not regions else scene.regions.new_zeros(len(names), *scene.regions.shape[1:])
    for i, name in enumerate(names):
        joined[i] = regions[name]
    return LabelledScene(scene.name, scene.image, names, joined)
