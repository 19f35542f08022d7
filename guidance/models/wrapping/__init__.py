"""Any net as a classifier with named depths: `wrap`."""

from __future__ import annotations

from guidance.models.wrapping.wrap import wrap

__all__ = ["wrap"]
