"""The names of the API come when they are asked for, and `import guidance` brings nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import pytest

import guidance


def test_importing_brings_nothing_that_is_not_asked_for() -> None:
    script = """
        import sys, guidance
        assert {"explain", "GuidedLoss", "evaluate", "front", "Preprocessing"} <= set(dir(guidance))
        for name in ("torch", "torchvision", "tensorboard", "matplotlib", "pycocotools", "numpy", "pydantic"):
            assert name not in sys.modules, name
        guidance.GuidedLoss
        for name in ("tensorboard", "matplotlib", "pycocotools", "pydantic"):
            assert name not in sys.modules, name
        guidance.explain, guidance.evaluate, guidance.front
        for name in ("tensorboard", "matplotlib.pyplot", "pycocotools", "lightning", "accelerate"):
            assert name not in sys.modules, name
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_every_name_is_there_and_documented() -> None:
    for name in guidance.__all__:
        assert inspect.getdoc(getattr(guidance, name)), name
    assert guidance.explain.__module__ == "guidance.api.explaining"
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        guidance.explian  # noqa: B018
