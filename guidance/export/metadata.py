"""What one must know to use an exported file, as plain types."""

from __future__ import annotations

from typing import Any

import torch

import guidance
from guidance.assembly.sets import resizing
from guidance.export.weights import LIBRARIES, library_options, name_in
from guidance.inference import Run


def describe_export(run: Run, kind: str, *, maps: bool) -> dict[str, Any]:
    """Classes, images, pre-processing, how logits become labels, and versions."""
    config, inside = run.config, kind not in LIBRARIES
    content: dict[str, Any] = {
        "format": kind, "architecture": config.model.name if inside else name_in(kind, run), "classes": list(run.classes),
        "image_size": config.data.image_size, "resize": _resize(run),
        "input": "images [B, 3, H, W], RGB, " + ("in [0, 1]" if inside else "in [0, 1], normalised: (x - mean) / std"),
        "labels": "single" if config.data.single_label else "multi", **_decision(run),
        "outputs": ["logits", "maps"] if maps else ["logits"], "epoch": run.epoch, "step": run.step,
        "guidance": guidance.__version__, "torch": torch.__version__,
    }  # fmt: skip
    if not inside:
        content |= {
            "mean": config.model.input.mean, "std": config.model.input.std,
            f"{kind}_options": library_options(kind, run),
        }  # fmt: skip
    if maps:
        settings = config.evaluated_attribution
        content["maps"] = {
            "method": settings.method, "depth": settings.depth, "of": "the class of the largest logit",
            "values": "[B, H, W], signed, in units of the logit", "iou_threshold": run.metrics.get("iou_threshold"),
        }  # fmt: skip
    return content


def _resize(run: Run) -> str:
    size, crop, how = run.config.data.image_size, run.config.evaluation.crop, resizing(run.config)
    if crop == "center":
        short = how.short_side(size)
        return f"short side to {short} pixels, {how.interpolation}, antialiased; then the middle {size} x {size}"
    if crop == "none":
        return f"the whole image to {size} x {size} pixels, {how.interpolation}, antialiased"
    return f"evaluation.crop {crop} (a square that is drawn for each image), as {size} x {size} pixels"


def _decision(run: Run) -> dict[str, str]:
    """How logits become probabilities and labels, as the metrics of the run take them."""
    if run.config.objective.exclusive:
        return {"activation": "softmax", "decision": "the class of the largest logit"}
    return {"activation": "sigmoid", "decision": "every class whose logit is at least 0 (probability 0.5)"}
