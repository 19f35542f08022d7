"""Freed memory of the host is kept for the next tensors, instead of being given back to the system after each of them.

By default glibc maps every large block anew and unmaps it when it is freed, so that the kernel clears its pages for each
tensor that is made: a tenth of an evaluation with maps on a CPU, and more in large batches.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt, in glibc's malloc.h
NEVER = 2**31 - 1  # bytes at the top of the heap from which on it shrinks
# Variables by which users tell glibc themselves what to do, or have another allocator.
CHOSEN = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


class _State:
    kept = False  # by this process


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Take memory of any size from the heap, which never shrinks, from now on and in the whole process.

    The process holds its peak to its end, which is a few per cent higher than before. Returns whether this was done: not where
    a variable of `CHOSEN` says that the user has decided already, nor where the C library is not glibc (macOS, Windows, musl).
    """
    if any(environment.get(name) for name in CHOSEN) or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    _State.kept = bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))
    return _State.kept


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` has done so in this process."""
    return _State.kept
