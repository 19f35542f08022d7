"""Where nets come from beside our own table: libraries, and modules of one's own."""

from __future__ import annotations

from guidance.models.sources.finding import SOURCES, find_backbone

__all__ = ["SOURCES", "find_backbone"]
