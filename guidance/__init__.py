"""Train image classifiers that are right for the right reasons. Importing has no side effects, and imports nothing.

The names below come from their modules when they are asked for: a Python API without configs and folders, see
docs/guides/own_net.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guidance.api.aim_loss import AIMLoss
    from guidance.api.evaluating import Evaluated, evaluate
    from guidance.api.explaining import ExplainedImages, explain
    from guidance.api.fronts import front
    from guidance.api.guided_loss import GuidedLoss
    from guidance.api.images import Preprocessing
    from guidance.api.plain_loss import GuidedOutput
    from guidance.api.surveying import Survey, survey
    from guidance.inference import load_model, load_run
    from guidance.models import wrap

__version__ = "0.1.0"
__all__ = [
    "AIMLoss",
    "Evaluated",
    "ExplainedImages",
    "GuidedLoss",
    "GuidedOutput",
    "Preprocessing",
    "Survey",
    "evaluate",
    "explain",
    "front",
    "load_model",
    "load_run",
    "survey",
    "wrap",
]
_MODULES = {
    "AIMLoss": "guidance.api.aim_loss",
    "Evaluated": "guidance.api.evaluating",
    "ExplainedImages": "guidance.api.explaining",
    "GuidedLoss": "guidance.api.guided_loss",
    "GuidedOutput": "guidance.api.plain_loss",
    "Preprocessing": "guidance.api.images",
    "Survey": "guidance.api.surveying",
    "evaluate": "guidance.api.evaluating",
    "explain": "guidance.api.explaining",
    "front": "guidance.api.fronts",
    "load_model": "guidance.inference",
    "load_run": "guidance.inference",
    "survey": "guidance.api.surveying",
    "wrap": "guidance.models",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'guidance' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
