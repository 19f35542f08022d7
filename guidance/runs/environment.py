"""What a run was made with: versions, hardware, sources."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision

import guidance
from guidance import distributed


def environment() -> dict[str, Any]:
    """Versions and hardware, as plain types."""
    return {
        "guidance": guidance.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": distributed.world_size(),
        "command": sys.argv,
    }


def commit() -> str | None:
    """The commit of the sources that run, with "+" where they were changed since; None where they are no checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(guidance.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # The package must be tracked: installed into another project's folder it is not of that project's commit.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".", ":/launch") else "")
    except (OSError, subprocess.SubprocessError):
        return None
