"""The IoU threshold of an evaluation: that of the checkpoint, a number that was set, or one to be fitted again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidance.assembly.evaluation import describe_evaluation
from guidance.config import Config, override_config
from guidance.runs.settings import flatten

LOG = logging.getLogger(__name__)
# What a fitted IoU threshold depends on, beside the weights.
FITTED = ("evaluation.attribution", "objective.attribution", "evaluation.region", "evaluation.crop", "evaluation.shift",
          "data.image_size", "data.orientation")  # fmt: skip


def refit_threshold(config: Config, trained: Config) -> Config:
    """The config with an IoU threshold to be fitted. ValueError if another number than that of `trained` was asked for."""
    wanted = config.evaluation.iou_threshold
    if wanted not in ("fit", trained.evaluation.iou_threshold):
        raise ValueError(
            f"evaluation.iou_threshold={wanted:g} sets the IoU threshold, and --refit fits it; leave out one of the two"
        )
    return override_config(config, ["evaluation.iou_threshold=fit"])


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
    if _decided(config) == _decided(trained):
        return threshold, f"fitted on {val}"
    with_ = describe_evaluation(trained, f"{threshold:g}")
    LOG.warning(
        "the IoU threshold %g was fitted with other settings (%s): so IoU is not the best that this evaluation can reach. "
        "--refit fits it anew on %s; evaluation.iou_threshold sets it", threshold, with_, val,
    )  # fmt: skip
    return threshold, f"fitted on {val} with other settings: {with_}"


def _decided(config: Config) -> list[Any]:
    resolved = config.evaluated_attribution.model_dump()
    flat = flatten(config.model_dump(mode="json"))
    return [resolved, *(flat.get(name) for name in FITTED)]
