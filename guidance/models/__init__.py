"""Nets with named depths: `BACKBONES` is the table of them, `find_backbone` finds others, too; `wrap` takes any net."""

from __future__ import annotations

from guidance.models.backbones import BACKBONES, Backbone, InputFormat
from guidance.models.building import Wrapping, build_model
from guidance.models.classifier import Classifier, Depth
from guidance.models.sources import find_backbone
from guidance.models.wrapping import wrap

__all__ = [
    "BACKBONES", "Backbone", "Classifier", "Depth", "InputFormat", "Wrapping", "build_model", "find_backbone", "wrap",
]  # fmt: skip
