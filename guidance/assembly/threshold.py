"""The IoU threshold of an evaluation: that of the checkpoint, a number that was set, or one to be fitted; and on what."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidance.assembly.nets import build_method
from guidance.config import Config, override_config
from guidance.data import Source
from guidance.data.annotation import is_annotated
from guidance.data.source import relative_names
from guidance.data.splits import set_apart
from guidance.evaluation.localization import describe_fit
from guidance.runs.settings import flatten

LOG = logging.getLogger(__name__)
# What a fitted IoU threshold depends on, beside the weights and the evaluated attribution.
FITTED = (
    "evaluation.region", "evaluation.crop", "evaluation.shift", "data.image_size", "data.orientation",
    "model.input.interpolation", "model.input.crop_pct",
)  # fmt: skip


def threshold_images(config: Config, source: Source) -> frozenset[int]:
    """Positions of the images of a split on which alone the IoU threshold is fitted; none but of the validation split.

    A share `evaluation.threshold_fraction` of it, which depends on the images' names alone: the same for all runs and seeds.
    Raises ValueError where some images have a region, but none of these to fit on, or none of the others to select by.
    """
    fraction, region = config.evaluation.threshold_fraction, config.evaluation.region
    if source.split != config.data.val_split or fraction == 0:
        return frozenset()
    found = set_apart(relative_names(source.records)[1], fraction, "threshold")
    known = {i for i, record in enumerate(source.records) if is_annotated(record, region)}
    if not found or (known and not (found & known and known - found)):
        fit, select = len(found & known), len(known - found)
        raise ValueError(
            f"evaluation.threshold_fraction {fraction:g} sets {len(found)} of the {len(source.records)} images of "
            f"{source.name} {source.split} apart to fit the IoU threshold on; of those with a region under evaluation.region "
            f"{region!r} that leaves {fit} to fit on and {select} to select by. {'Lower' if fit else 'Raise'} it, or set it to "
            "0 to fit and select on all of them"
        )
    return found


def refit_threshold(config: Config, trained: Config) -> Config:
    """The config with an IoU threshold to be fitted. ValueError if another number than that of `trained` was asked for."""
    wanted = config.evaluation.iou_threshold
    if wanted not in ("fit", trained.evaluation.iou_threshold):
        raise ValueError(
            f"evaluation.iou_threshold={wanted:g} sets the IoU threshold, and --refit fits it; leave out one of the two"
        )
    return override_config(config, ["evaluation.iou_threshold=fit"])


def describe_evaluation(config: Config, threshold: str) -> str:
    """What decides the localisation scores, for people; `threshold` says where that of IoU comes from."""
    attribution, evaluation = config.evaluated_attribution, config.evaluation
    chosen = ", ".join(f"{name} {value}" for name, value in build_method(attribution.without_lens()).options.items())
    options = f" ({chosen})" if chosen else ""
    lens = "" if attribution.lens is None else f" + lens ({attribution.lens.description})"
    crop = "" if evaluation.crop == "none" else f", {evaluation.crop} crop"
    where = f"{attribution.method}{options}{lens} at {attribution.depth}"
    return f"{where}, region {evaluation.region}{crop}, IoU threshold {threshold}"


def stored_threshold(
    config: Config, trained: Config, metrics: Mapping[str, float], source: str | Path
) -> tuple[float, str]:
    """The IoU threshold of a checkpoint, and where it comes from; a warning where that was another evaluation.

    `trained`: the config in the checkpoint, `metrics`: those in it, `source`: its name, for errors.
    """
    wanted = config.evaluation.iou_threshold
    if wanted != "fit":
        return float(wanted), "as set"
    if trained.evaluation.iou_threshold != "fit" or "iou_threshold" not in metrics:
        raise ValueError(
            f"{source} holds no fitted IoU threshold; fit one with --refit, or set evaluation.iou_threshold to a number"
        )
    threshold, val = metrics["iou_threshold"], trained.data.val_split
    fitted = describe_fit(val, trained.evaluation.threshold_fraction)
    now, then = _decided(config), _decided(trained)
    other = ", ".join(name for name in now if now[name] != then.get(name))
    if not other:
        return threshold, fitted
    with_ = describe_evaluation(trained, f"{threshold:g}")
    LOG.warning(
        "the IoU threshold %g was fitted with other settings (%s; other now: %s): so IoU is not the best that this evaluation "
        "can reach. --refit fits it anew on %s; evaluation.iou_threshold sets it", threshold, with_, other, val,
    )  # fmt: skip
    return threshold, f"{fitted}, with other settings: {with_}; other now: {other}"


def _decided(config: Config) -> dict[str, Any]:
    """What decides the maps and masks that a threshold is fitted on, by the names of the settings."""
    flat = flatten(config.model_dump(mode="json"))
    names = (*FITTED, *(f"data.{name}" for name in config.data.relabels))
    return {"attribution": config.evaluated_attribution.model_dump()} | {name: flat.get(name) for name in names}
