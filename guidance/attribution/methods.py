"""The table of attribution methods."""

from __future__ import annotations

from functools import partial

from guidance.attribution.gradient import bcos, gradcam, gradient, ixg, saliency
from guidance.attribution.guided_backprop import clamp_remark, guided_backprop, guided_gradcam
from guidance.attribution.intgrad import intgrad
from guidance.attribution.lrp.propagation import lrp, lrp_remark
from guidance.attribution.perturbation.black_box import (
    feature_ablation,
    kernel_shap,
    lime,
    occlusion,
    perturbation_remark,
    shapley,
)
from guidance.attribution.request import Method
from guidance.attribution.transformer.inflow import inflow
from guidance.attribution.transformer.rollout import attention_gradcam, grad_rollout, rollout
from guidance.attribution.transformer.t_lrp import t_lrp
from guidance.attribution.transformer.transitions import bi_attn, t_attn
from guidance.attribution.transformer.values import value_gradient

ATTENTION = ("attention",)

# They ask the net for what it answers to other images: no map of theirs has a gradient, or another place than the input.
_black_box = partial(
    Method, trainable=False, reason="it compares what the net answers to changed images, which has no gradient",
    depths=("input",), remark=perturbation_remark,
)  # fmt: skip
SUPERPIXELS = {
    "segments": 100,
    "compactness": 10.0,
}  # as in the paper of Attribution Lens, App. D.2, as are the samples
DRAWN = {"seed": 0, "batch_size": 32}

ATTRIBUTIONS: dict[str, Method] = {
    "ixg": Method(ixg, "IxG", one_gradient="always"),
    "bcos": Method(bcos, "B-cos", one_gradient="always", needs=("dynamic",)),
    "gradient": Method(gradient, "Gradient", linearizes=False, adds_channels=True),
    "gradcam": Method(gradcam, "GradCAM", linearizes=False, depth="final"),
    "saliency": Method(saliency, "Saliency", linearizes=False),
    "intgrad": Method(intgrad, "IntGrad", one_gradient="homogeneous", options={"steps": 20}, settings=("steps",)),
    "guided_backprop": Method(
        guided_backprop, "Guided Backprop", linearizes=False, adds_channels=True, remark=clamp_remark
    ),
    "guided_gradcam": Method(
        guided_gradcam, "Guided GradCAM", linearizes=False, adds_channels=True, remark=clamp_remark
    ),
    "lrp": Method(
        lrp, "LRP", trainable=False, reason="its rules replace the gradient, and have no derivative of their own",
        needs=("relevance",), options={"composite": "epsilon_plus_flat"}, remark=lrp_remark,
    ),
    "feature_ablation": _black_box(feature_ablation, "Feature Ablation", options=SUPERPIXELS | {"batch_size": 32}),
    "occlusion": _black_box(occlusion, "Occlusion", options={"patch": 15, "stride": 8, "batch_size": 32}),
    "shapley": _black_box(shapley, "Shapley Values", options={"samples": 64} | SUPERPIXELS | DRAWN),
    "kernel_shap": _black_box(kernel_shap, "KernelSHAP", options={"samples": 64} | SUPERPIXELS | DRAWN),
    "lime": _black_box(lime, "LIME", options={"samples": 1000, "alpha": 0.01} | SUPERPIXELS | DRAWN),
    "attention_gradcam": Method(attention_gradcam, "GradCAM (attention)", needs=ATTENTION),
    "rollout": Method(rollout, "Rollout", needs=ATTENTION),
    "grad_rollout": Method(grad_rollout, "Grad-Rollout", needs=ATTENTION),
    "t_attn": Method(t_attn, "T-attn", needs=ATTENTION, options={"start": 0, "steps": 20}, settings=("steps",)),
    "bi_attn": Method(bi_attn, "Bi-attn", needs=ATTENTION, options={"start": 3, "steps": 20}, settings=("steps",)),
    "value_gradient": Method(value_gradient, "Gradient (values)", needs=ATTENTION, adds_channels=True),
    "t_lrp": Method(
        t_lrp, "T-LRP", needs=ATTENTION, trainable=False,
        reason="its rules divide by sums of products of both signs, near whose zeros their derivatives have no bound",
    ),
    "inflow": Method(inflow, "InFlow", needs=ATTENTION, trainable=False),
}  # fmt: skip
