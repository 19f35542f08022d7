"""A trained net as one file for others to use: plain weights, torch.export, ONNX; checked, described, with a model card."""

from __future__ import annotations

from guidance.export.deployed import Deployed
from guidance.export.formats import FORMATS
from guidance.export.writing import Exported, export

__all__ = ["FORMATS", "Deployed", "Exported", "export"]
