"""What a run was made with: versions, hardware, sources."""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy
import torch
import torchvision

import guidance
from guidance import distributed
from guidance.runs.commit import commit


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
