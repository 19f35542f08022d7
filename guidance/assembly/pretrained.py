"""A net that was trained elsewhere: the config that it stands for, its classes, and data in their terms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from guidance.assembly.sets import build_source
from guidance.config import Config, change_content, override_config, parse_config, read_content, read_overrides
from guidance.config.pretrained import FIXED
from guidance.config.sections import InputSettings
from guidance.data import Source
from guidance.data.sets.imagenet import HARD, WOOF
from guidance.data.source import Record
from guidance.models import find_backbone
from guidance.models.building import num_outputs
from guidance.models.sources.imagenet import imagenet_classes, imagenet_indices
from guidance.runs import checkpoint
from guidance.runs.paths import last_checkpoint
from guidance.runs.settings import flatten

LOG = logging.getLogger(__name__)

SPLITS = (
    "train.json",
    "annotations.json",
    "train",
)  # what a folder holds that has splits (see guidance.data.sets.custom)
SHOWN = 5  # classes that are named


def pretrained_config(name: str, weights: str | Path, data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The config of a net that is only evaluated: the pre-processing of its weights, one class of each image decides where it
    has one, and everything else by default, changed by `overrides`.

    Nets of a library are given images as their weights ask. Of other nets, and of weights in a file, images are resized to 256
    pixels on the short side, of which the middle 224 are kept, as torchvision's V1 weights of ResNets and DenseNet ask. (Those
    of ConvNeXt ask for 236 or 232 pixels instead of 256.)
    """
    backbone = find_backbone(name)
    method = "bcos" if "dynamic" in backbone.traits else "ixg"
    trained = backbone.formats.get(backbone.aliases.get(str(weights), str(weights)))
    crop = "center" if trained is None else trained.crop
    content: dict[str, Any] = {
        "data": dict(data), "model": {"name": name, "weights": str(weights)}, "evaluation": {"crop": crop},
        "objective": {"attribution": {"method": method}},
    }  # fmt: skip
    changes = read_overrides(overrides)
    change_content(content, changes)
    config = parse_config(content, source=f"the net {name} with its data")
    decided = "objective.classification" in changes or not config.data.single_label
    return config if decided else override_config(config, ["objective.classification=cross_entropy"])


def like_weights(config: Config, resumed: Path | None = None) -> Config:
    """The config of a run that starts from the checkpoint of another: its images are made as those of that run were.

    `data.image_size` and `model.input` that the config does not set are those of the run whose checkpoint `model.weights` is,
    and a line of the log says so; of the run in the folder `resumed`, if it has a checkpoint, they stay as they are there.
    Where the config sets others, a warning says so. Raises ValueError for another mean or standard deviation.
    """
    own = None if resumed is None else last_checkpoint(resumed)
    path = own if own is not None and own.is_file() else Path(config.model.weights)
    trained = _images_of(path)
    current = flatten(
        {"data": {"image_size": config.data.image_size}, "model": {"input": config.model.input.model_dump()}}
    )
    given = {f"data.{name}" for name in config.data.model_fields_set}
    given |= {f"model.input.{name}" for name in config.model.input.model_fields_set}
    other = {name: value for name, value in trained.items() if value != current[name]}
    for name in sorted(other.keys() & given):
        told = f"{name} is {current[name]}, but the weights {path} were trained with {other[name]}"
        if name.rpartition(".")[2] in FIXED:
            raise ValueError(f"{told}; leave it out")
        LOG.warning("%s", told)
    taken = {name: value for name, value in other.items() if name not in given}
    if not taken:
        return config
    LOG.info("as the weights %s were trained: %s", path, ", ".join(f"{name} {value}" for name, value in taken.items()))
    content = config.model_dump(mode="json")
    change_content(content, taken)
    return parse_config(content)


def _images_of(path: Path) -> dict[str, Any]:
    """Settings of the run whose checkpoint it is that say how its images were made, by dotted names.

    None at all for other weights, and where the file is missing or damaged: whoever loads it says what is wrong.
    """
    try:
        run = checkpoint.read(path, verify=False)["config"]
        inputs = InputSettings.model_validate(run["model"].get("input") or {}).model_dump()
        return {"data.image_size": run["data"]["image_size"]} | {f"model.input.{name}": x for name, x in inputs.items()}
    except (ValueError, OSError, LookupError, TypeError, AttributeError):
        return {}


def data_section(data: str | Path | None) -> dict[str, Any]:
    """The data section that `data` means: that of a config file, one's own images in a folder, or none that is ever read."""
    if data is None:
        return {"name": "custom", "root": ".", "layout": "classes"}
    path = Path(data)
    if path.suffix in (".yaml", ".yml"):
        content = read_content(path).get("data")
        if not isinstance(content, dict):
            raise ValueError(f"{path} has no section `data`")
        return content
    if not path.is_dir():
        raise ValueError(
            f"{path} is no folder of images, and no config: give a folder that holds one for each class, the data.root of a "
            "set of your own, or a config (.yaml) whose data section is meant"
        )
    if any((path / name).exists() for name in SPLITS):
        return {"name": "custom", "root": str(path)}
    # Every split that something asks for is the only one.
    return {"name": "custom", "root": str(path), "layout": "classes", "train_split": "test", "val_split": "test"}


def pretrained_classes(config: Config, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of the net's outputs: those `given`, ImageNet's for 1000 of them, or those of the data, where as many.

    ValueError where their number is another, or nothing tells the names.
    """
    outputs = num_outputs(config.model.name, config.model.weights)
    if given is None and outputs == len(imagenet_classes()):
        return imagenet_classes()
    names = tuple(given) if given is not None else build_source(config, config.data.val_split).classes
    if len(names) != outputs:
        raise ValueError(
            f"{config.model.weights} has {outputs} outputs, but {'the data has' if given is None else 'there are'} "
            f"{len(names)} classes ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}); what the "
            "outputs of other weights than ImageNet's mean, the data must tell, or load_model(classes=...)"
        )
    return names


def in_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """`source` with its classes, some of a net's, numbered as the outputs of the net.

    A class is found by its name ("_" stands for a space; case counts where two differ in nothing else), among ImageNet's by its
    WordNet id too. Raises ValueError for classes that the net does not have, the first few by name, and for two that are the
    same to it.
    """
    if source.classes == classes:
        return source
    find = _finder(classes)
    found = {name: find(name) for name in source.classes}
    unknown = [name for name, k in found.items() if k is None]
    if unknown:
        raise ValueError(
            f"the net has no class {', '.join(unknown[:SHOWN])}{' and others' if len(unknown) > SHOWN else ''}, but "
            f"{source.name} {source.split} has; it knows {', '.join(classes[:SHOWN])} and so on. Folders of "
            "ImageNet's classes are named by class or WordNet id"
        )
    numbers = tuple(k for k in found.values() if k is not None)
    if len(set(numbers)) < len(numbers):
        twice = [name for name, k in zip(source.classes, numbers, strict=True) if numbers.count(k) > 1]
        raise ValueError(f"{', '.join(twice[:SHOWN])} of {source.name} are one class to the net; join them")
    read = source.read_segments
    return replace(
        source, classes=classes, records=tuple(_numbered(record, numbers) for record in source.records),
        read_segments=None if read is None else partial(_read_numbered, read, numbers),
    )  # fmt: skip


def _finder(classes: tuple[str, ...]) -> Callable[[str], int | None]:
    """Name of a class -> its number, or None."""
    known = {name: k for k, name in enumerate(classes)}
    if classes == imagenet_classes():
        by_id = imagenet_indices()
        others = {name: by_id[wordnet] for table in (WOOF, HARD) for wordnet, name in table.items()}
        known = {**others, **by_id}
    folded: dict[str, set[int]] = {}
    for name, k in known.items():
        folded.setdefault(name.casefold(), set()).add(k)

    def find(name: str) -> int | None:
        plain = name.replace("_", " ")
        alike = folded.get(plain.casefold(), set())  # a Cardigan is a dog, a cardigan is not
        return known.get(name, known.get(plain, next(iter(alike)) if len(alike) == 1 else None))

    return find


def _numbered(record: Record, numbers: Sequence[int] | Mapping[int, int]) -> Record:
    def of(classes: Sequence[int]) -> tuple[int, ...]:
        return tuple(numbers[k] for k in classes)

    return record._replace(
        classes=tuple(sorted(of(record.classes))), box_classes=of(record.box_classes),
        never_classes=of(record.never_classes),
    )  # fmt: skip


def _read_numbered(read: Any, numbers: Sequence[int], record: Record) -> dict[int, Tensor]:
    """What reads the segmentations of a record knows it by the numbers that its classes had."""
    before = _numbered(record, {new: old for old, new in enumerate(numbers)})
    return {numbers[k]: mask for k, mask in read(before).items()}
