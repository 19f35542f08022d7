"""The table of attribution methods."""

from __future__ import annotations

from guidance.attribution.gradient import bcos, gradcam, ixg, saliency
from guidance.attribution.guided_backprop import clamp_remark, guided_backprop, guided_gradcam
from guidance.attribution.intgrad import intgrad
from guidance.attribution.request import Method

ATTRIBUTIONS: dict[str, Method] = {
    "ixg": Method(ixg, "IxG", one_gradient="always"),
    "bcos": Method(bcos, "B-cos", one_gradient="always", needs=("dynamic",)),
    "gradcam": Method(gradcam, "GradCAM", linearizes=False),
    "saliency": Method(saliency, "Saliency", linearizes=False),
    "intgrad": Method(intgrad, "IntGrad", one_gradient="homogeneous", options={"steps": 20}, settings=("steps",)),
    "guided_backprop": Method(guided_backprop, "Guided Backprop", linearizes=False, remark=clamp_remark),
    "guided_gradcam": Method(guided_gradcam, "Guided GradCAM", linearizes=False, remark=clamp_remark),
}
