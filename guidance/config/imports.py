"""The modules of one's own that a config names, such as those that `--import` has imported for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guidance.importing import import_module


def import_modules(content: Mapping[str, Any], *, source: str = "config") -> None:
    """Import what the config `content` names under `imports`; names alone, never code. ValueError for one that is not there."""
    names = content.get("imports") or []
    for name in names if isinstance(names, list) else []:  # what else it may be, validation tells
        try:
            import_module(str(name))
        except ImportError as error:
            raise ValueError(
                f"{source} needs the module {name}, which adds rows of its own: {error}; install it, or start from the folder "
                "where it lies"
            ) from error
