"""Modules of one's own: imported by name, as `import` would from the current folder."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def import_module(name: str) -> ModuleType:
    """The module of that name, also from the current folder. ImportError where it, or what it imports, is not there."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # Python puts the folder of the command there
    return importlib.import_module(name)
