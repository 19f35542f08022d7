"""AIM (Alshami et al. 2025): nets that mask their own features, and classify what is left."""

from __future__ import annotations

from guidance.models.aim.building import AIMForm, build_aim
from guidance.models.aim.masks import MaskEstimator, binary_mask
from guidance.models.aim.nets import BottomUp, MaskedClassifier, TopDown
from guidance.models.aim.stages import check_stop_stage, estimating_stages, stage_depths, top_down_depths
from guidance.models.weights import WeightLayout

# Of the state dicts of both maskings.
LAYOUT = WeightLayout("aim", prefix="backbone.", heads="heads", hint="and are aim.stop_stage and aim.masking its own")

__all__ = [
    "LAYOUT", "AIMForm", "BottomUp", "MaskEstimator", "MaskedClassifier", "TopDown", "binary_mask", "build_aim",
    "check_stop_stage", "estimating_stages", "stage_depths", "top_down_depths",
]  # fmt: skip
