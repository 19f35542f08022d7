"""Any net as a classifier with named depths: `wrap`."""

from __future__ import annotations

from guidance.models.wrapping.wrap import suggest, wrap

__all__ = ["suggest", "wrap"]
