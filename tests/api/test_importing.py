"""The names of the API come when they are asked for, and `import guidance` brings nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import pytest

import guidance


def test_importing_brings_nothing_that_is_not_asked_for() -> None:
    """One process, which asks for more and more; what is optional comes with none of it."""
    script = """
        import sys, guidance
        assert {"explain", "GuidedLoss", "evaluate", "front", "Preprocessing"} <= set(dir(guidance))
        for name in ("torch", "torchvision", "tensorboard", "matplotlib", "pycocotools", "numpy", "pydantic"):
            assert name not in sys.modules, name
        import guidance.models
        assert "torchvision" not in sys.modules, "it takes two seconds"
        guidance.GuidedLoss
        for name in ("tensorboard", "matplotlib", "pycocotools", "pydantic"):
            assert name not in sys.modules, name
        guidance.explain, guidance.evaluate, guidance.front
        import guidance.inference, guidance.export
        optional = ["tensorboard", "matplotlib.pyplot", "pycocotools", "lightning", "accelerate", "captum", "scipy", "submitit"]
        optional += ["plotly", "zennit", "skimage", "sklearn", "onnx", "onnxscript", "onnxruntime"]
        bad = [name for name in optional if name in sys.modules]
        assert not bad, bad
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_every_name_is_there_and_documented() -> None:
    for name in guidance.__all__:
        assert inspect.getdoc(getattr(guidance, name)), name
    assert guidance.explain.__module__ == "guidance.api.explaining"
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        guidance.explian  # noqa: B018
