"""AIM (Alshami et al. 2025): nets that mask their own features, and classify what is left."""

from __future__ import annotations

from guidance.maps import merged_mask
from guidance.models.aim.masks import MaskEstimator, binary_mask
from guidance.models.aim.nets import MASKINGS, BottomUp, MaskedClassifier, TopDown, build_aim, stage_depths

__all__ = [
    "MASKINGS", "BottomUp", "MaskEstimator", "MaskedClassifier", "TopDown", "binary_mask", "build_aim", "merged_mask",
    "stage_depths",
]  # fmt: skip
