"""Modules of one's own: imported by name, as `import` would from the current folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def import_module(name: str) -> ModuleType:
    """The module of that name, also from the current folder. ImportError where it, or what it imports, is not there."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError(f"{name!r} is no name of a module")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # Python puts the folder of the command there
    return importlib.import_module(name)


def import_recorded(config: Mapping[str, Any], *, source: str = "config") -> None:
    """Import the modules that a config, as plain types, names under `imports`, such as those that `--import` has imported.

    Names alone, found where `import` finds them, or in the current folder. Raises ValueError for one that is not there.
    """
    names = config.get("imports")
    for name in names if isinstance(names, list) else []:  # what else it may be, its validation tells
        try:
            import_module(str(name))
        except ImportError as error:
            raise ValueError(
                f"{source} needs the module {name}, which adds rows of its own to the tables: {error}; install it, or start "
                "from the folder where it lies"
            ) from error
