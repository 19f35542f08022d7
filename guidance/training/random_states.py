"""The random number generators of a process: seeded, saved, put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch


def get_rng() -> dict[str, Any]:
    """State of every random number generator of this process, as plain types."""
    kind, keys, position, has_gauss, gauss = numpy.random.get_state()
    words = torch.from_numpy(numpy.asarray(keys).astype("int64"))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(kind), words, int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }  # fmt: skip


def seed_rng(seed: int) -> None:
    """Seed every random number generator of this process."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_rng(state: Mapping[str, Any]) -> None:
    """Put back what `get_rng` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
