"""Nets with named depths; `BACKBONES` is the table of them."""

from __future__ import annotations

from guidance.models.backbones import BACKBONES, Backbone
from guidance.models.building import Wrapping, build_model
from guidance.models.classifier import Classifier, Depth
from guidance.models.wrapping import wrap

__all__ = ["BACKBONES", "Backbone", "Classifier", "Depth", "Wrapping", "build_model", "wrap"]
