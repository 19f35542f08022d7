"""Config -> splits, caches, training and evaluation sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature

from torch import Tensor

from guidance.config import Config
from guidance.data import DATASETS, GuidanceDataset, Source, Transform, eval_transform, train_transform
from guidance.data.annotation import REGIMES, ReadSegments, RegionOptions, check_regime, is_annotated, only_never
from guidance.data.cache.images import open_cache, shared_cache
from guidance.data.cache.segments import has_segments, open_segments, shared_segments
from guidance.data.reading.preflight import with_details
from guidance.data.splits import annotated_subset
from guidance.data.transforms.crops import SQUARES, Resizing
from guidance.data.transforms.encodings import Encoding, with_normalization
from guidance.losses import LOCALIZATION_LOSSES, looking_outside
from guidance.models import find_backbone
from guidance.types import lookup

LOG = logging.getLogger(__name__)


def build_source(config: Config, split: str) -> Source:
    """Read the annotation of one split. Raises ValueError for a missing or malformed data set, or an empty split."""
    data = config.data
    load = lookup(DATASETS, data.name, "data set (data.name)")
    # The keyword-only arguments of a loader are settings of its section, under the same names.
    options = [name for name, p in signature(load).parameters.items() if p.kind is p.KEYWORD_ONLY]
    source = load(data.root, split, **{name: getattr(data, name) for name in options})
    source = replace(source, displayed=data.orientation == "displayed")
    if not source.records:
        raise ValueError(f"the {split} split of {data.name} at {data.root} has no usable image")
    if source.skipped:
        reason = "without a label, or faulty (data.on_error: skip)" if data.on_error == "skip" else "without a label"
        LOG.warning(with_details(f"{data.name} {split}: {source.skipped} records left out: {reason}", source.problems))
    return source


def build_caches(config: Config, train: Source, val: Source) -> None:
    """Build the decoded caches that a run reads, where they are missing or outdated. A collective call.

    Evaluation never reads images that were resized twice: its size is always the net's.
    """
    data = config.data
    if data.cache is None:
        return
    for source in (train, val):
        cached, size = as_cached(config, source)
        if cached.crop not in SQUARES:
            continue
        shared_cache(data.cache, cached, size, on_error=data.on_error, threads=data.num_workers)
        if caches_segments(config, source):
            shared_segments(data.cache, cached, size, on_error=data.on_error, threads=data.num_workers)


def caches_segments(config: Config, source: Source) -> bool:
    """Whether the segmentations of a split are cached beside its images: evaluation reads all, training those it guides by."""
    return has_segments(source) and (source.split != config.data.train_split or REGIMES[config.data.region].segments)


def as_cached(config: Config, source: Source) -> tuple[Source, int]:
    """A split with the crop of its images, and their size, as a cache holds them: those of training, or of evaluation.

    Crops that are drawn anew each time cannot be cached.
    """
    data = config.data
    if source.split == data.train_split:
        return replace(source, crop=data.crop, resizing=resizing(config)), data.cache_size or data.image_size
    return replace(source, crop=config.evaluation.crop, resizing=resizing(config)), data.image_size


def _reader(config: Config, source: Source, size: int) -> Callable[[int], tuple[Tensor, tuple[int, int]]] | None:
    """What reads the images of a split from its cache; None where it has none, so that files are decoded."""
    if config.data.cache is None or source.crop not in SQUARES:
        return None
    cache = open_cache(config.data.cache, source, size)
    return None if cache is None else cache.read


def _segment_reader(config: Config, source: Source, size: int, *, images: bool) -> ReadSegments | None:
    """The same of its segmentations, which are used with cached `images` alone."""
    if config.data.cache is None or not images or not has_segments(source):
        return None
    cache = open_segments(config.data.cache, source, size)
    return None if cache is None else cache.read


def build_training_dataset(config: Config, train: Source) -> tuple[GuidanceDataset, list[int]]:
    """The training set, and the indices whose regions it may use."""
    data = config.data
    annotated = choose_annotated(config, train)
    loss = LOCALIZATION_LOSSES[config.objective.localization.loss]
    source = replace(train, crop=data.crop, resizing=resizing(config))
    size = data.cache_size or data.image_size
    read = _reader(config, source, size)
    transform = train_transform(
        data.image_size, data.augmentation, encoding(config), crop=data.crop if read is None else "none",
        randaugment_ops=data.randaugment_ops, randaugment_magnitude=data.randaugment_magnitude, resizing=resizing(config),
    )  # fmt: skip
    regions = RegionOptions(
        region=data.region, dilation=data.dilation, classes_per_image=data.classes_per_image,
        never_alone=loss.looks == "outside", cached=_segment_reader(config, source, size, images=read is not None),
    )  # fmt: skip
    dataset = GuidanceDataset(
        source, transform, training=True, seed=config.seed, regions=regions, annotated=annotated, on_error=data.on_error,
        read=read,
    )  # fmt: skip
    return dataset, annotated


def choose_annotated(config: Config, train: Source) -> list[int]:
    """The training images whose regions are used: a fraction of those that have one under `data.region`, or of all images.

    Where fewer have one than a fraction of all images asks for, that is logged. Raises ValueError where guidance would have
    nothing to go by, or would pull evidence to where it only should not be penalised.
    """
    region, fraction = config.data.region, config.data.annotated_fraction
    _check_region(region, train, "data.region", used=config.guides)
    candidates = [i for i, record in enumerate(train.records) if is_annotated(record, region)]
    of = len(train.records) if config.data.annotated_of == "images" else len(candidates)
    annotated = annotated_subset(candidates, fraction, config.seed, of=of)
    guided = config.guides
    if guided and annotated and len(annotated) < int(fraction * of):
        LOG.warning(
            "data.annotated_fraction %g of all %d training images asks for %d, but only %d have a region under data.region %r",
            fraction, of, int(fraction * of), len(annotated), region,
        )  # fmt: skip
    if guided and not annotated:
        raise ValueError(
            f"{config.guiding_settings} is above 0, but no image of {train.name} {train.split} has an annotation "
            f"under data.region {region!r}; set the weight to 0, or choose "
            "another region"
        )
    if guided:
        _check_never(config, train, annotated)
    return annotated


def _check_region(region: str, source: Source, setting: str, *, used: bool = True) -> None:
    """Raise ValueError for a regime that a split cannot serve; log where it serves one of two kinds alone, if it is `used`."""
    check_regime(region, source)
    regime = REGIMES[region]
    if used and regime.boxes and regime.segments and source.read_segments is None:
        LOG.warning(
            "%s %r: %s %s has no segmentations here, so it means boxes", setting, region, source.name, source.split
        )


def _check_never(config: Config, train: Source, annotated: Sequence[int]) -> None:
    """Raise ValueError where the loss cannot use what is only known of where evidence must not lie."""
    region, settings = config.data.region, config.objective.localization
    looks = LOCALIZATION_LOSSES[settings.loss].looks
    if looks == "inside" and any(train.records[i].never_boxes for i in annotated):
        raise ValueError(
            f"{train.name} knows where evidence must not lie, but objective.localization.loss {settings.loss!r} only looks "
            f"inside the mask, so nothing would be penalised there; use {looking_outside()}"
        )
    alone = only_never([train.records[i] for i in annotated], region)
    if alone and looks != "outside":
        raise ValueError(
            f"{alone} annotated (image, class) pairs of {train.name} know only where evidence must not lie; the loss "
            f"{settings.loss!r} would pull evidence to all other places. Use {looking_outside()} "
            f"(objective.localization.loss), or give these classes a {'box' if REGIMES[region].boxes else 'segmentation'}"
        )


def build_evaluation_dataset(config: Config, source: Source) -> GuidanceDataset:
    """A split without augmentation, with every region and, where it has them, the segmentations."""
    region = config.evaluation.region
    _check_region(region, source, "evaluation.region")
    if not any(is_annotated(record, region) for record in source.records):
        LOG.warning(
            "no image of %s %s has an annotation under evaluation.region %r, so EPG and IoU are undefined",
            source.name, source.split, region,
        )  # fmt: skip
    source = replace(source, crop=config.evaluation.crop, resizing=resizing(config))
    read = _reader(config, source, config.data.image_size)
    regions = RegionOptions(
        region=region, load_segments=source.read_segments is not None,
        cached=_segment_reader(config, source, config.data.image_size, images=read is not None),
    )  # fmt: skip
    return GuidanceDataset(
        source, build_eval_transform(config, cached=read is not None), training=False, on_error=config.data.on_error,
        regions=regions, read=read,
    )  # fmt: skip


def as_dilated(config: Config, dataset: GuidanceDataset) -> GuidanceDataset | None:
    """An evaluation set with its boxes as training dilates them, to be looked at; None where it does not.

    No metric is computed on them: only training boxes are dilated (Rao et al. 2023, R8).
    """
    data = config.data
    if data.dilation == 0 or not REGIMES[data.region].boxes:
        return None
    return dataset.with_regions(RegionOptions(region=data.region, dilation=data.dilation))


def build_eval_transform(config: Config, *, cached: bool = False) -> Transform:
    """What evaluation does to an image, or to the square of it that a cache holds."""
    settings = config.evaluation
    crop = "none" if cached else settings.crop
    return eval_transform(
        config.data.image_size, encoding(config), crop=crop, shift=settings.shift, resizing=resizing(config)
    )


def encoding(config: Config) -> Encoding:
    """How the net wants its input."""
    settings = config.model.input
    return with_normalization(find_backbone(config.model.name).encoding, settings.mean, settings.std)


def resizing(config: Config) -> Resizing:
    """How images are resized for the net."""
    return Resizing(config.model.input.interpolation, config.model.input.crop_pct)
