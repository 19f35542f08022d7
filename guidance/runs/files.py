"""Small files, written whole, and numbers as JSON takes them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file that is whole at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def finite(value: float) -> int | float | None:
    """As JSON takes it: what is not finite becomes None, and an integer stays one."""
    if isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON takes them, all of them as floats (see `finite`)."""
    return {name: finite(float(value)) for name, value in metrics.items()}
