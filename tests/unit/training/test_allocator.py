"""Freed memory is kept where that is asked for: in processes of their own, since what is said of memory holds to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from guidance.allocator import CHOSEN, keep_freed_memory

# Prints how many pages ten blocks of 64 MiB cost, which are written and freed one after the other, when one has come before.
PROGRAM = """
import ctypes, resource, runpy
allocator = runpy.run_path("guidance/allocator.py")  # as a file alone: nothing imports torch
assert not allocator["keeps_freed_memory"]()
kept = allocator["keep_freed_memory"]()
assert allocator["keeps_freed_memory"]() == kept
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def use():
    block = libc.malloc(2**26)
    libc.memset(block, 1, 2**26)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment: Mapping[str, str]) -> tuple[bool, int]:
    """Whether memory is kept with these variables, and the pages that the kernel had to bring."""
    own = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**own, **environment}, check=True, capture_output=True, text=True
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


def test_blocks_that_are_freed_are_used_again_unless_the_user_has_decided() -> None:
    kept, few = faults({})
    if not kept:
        pytest.skip("the C library is not glibc")
    untouched, many = faults({"MALLOC_MMAP_MAX_": "65536"})
    assert not untouched
    pages = 10 * 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert few < pages / 100 < pages / 2 < many


@pytest.mark.parametrize("name", CHOSEN)
def test_each_variable_of_users_counts(name: str) -> None:
    assert not keep_freed_memory({name: "anything"})
