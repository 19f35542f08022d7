"""Attribution maps that can be trained through. To add a method, write a function and a row in ATTRIBUTIONS."""

from __future__ import annotations

from guidance.attribution.compiled import CompiledNet, check_compilable
from guidance.attribution.explain import (
    Explanation,
    attribute,
    check_explainable,
    explain,
    explain_classes,
    method_of,
    needs_gradient,
    one_hot,
    run,
)
from guidance.attribution.lens import needed_classes, with_lens
from guidance.attribution.methods import ATTRIBUTIONS
from guidance.attribution.request import Explainable, Method, Request, takes_one_gradient

__all__ = [
    "ATTRIBUTIONS",
    "CompiledNet",
    "Explainable",
    "Explanation",
    "Method",
    "Request",
    "attribute",
    "check_compilable",
    "check_explainable",
    "explain",
    "explain_classes",
    "method_of",
    "needed_classes",
    "needs_gradient",
    "one_hot",
    "run",
    "takes_one_gradient",
    "with_lens",
]
