"""The torture of tests/torture, in the numbers that a long run of the tests can bear."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.torture.__main__ import BAD, GOOD
from tests.whole.test_end_to_end import ROOT

CASES = {"configs": 500, "data": 400, "checkpoints": 200, "kills": 12}


@pytest.mark.long
@pytest.mark.parametrize("section", CASES)
def test_everything_ends_in_a_clear_error_or_is_handled(section: str) -> None:
    command = [sys.executable, "-m", "tests.torture", section, "--cases", str(CASES[section])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = re.search(rf"^{section} (\{{.*\}})$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    counts = json.loads(found.group(1))
    assert sum(counts.values()) == CASES[section]
    assert sum(counts[kind] for kind in BAD) == 0, done.stdout
    assert all(counts[kind] > 0 for kind in GOOD) or section == "kills"  # neither harmless nor hopeless faults alone


@pytest.mark.long
def test_each_end_is_told_from_the_others() -> None:
    """A few cases of our own, so that zeros above are not those of a blind test."""
    code = """
import os, random, time
from tests.torture import __main__ as torture
def end(case): return torture.run_case(torture.Section(case, 2.0), random.Random(0)).kind
def fails(error):
    def case(*_): raise error
    return case
kinds = [end(lambda *_: None), end(fails(ValueError("what to do"))), end(fails(OSError(28, "no space"))),
         end(fails(KeyError("trainer"))), end(fails(ValueError(""))), end(fails(ValueError("x" * 9999))),
         end(lambda *_: time.sleep(60)), end(lambda *_: os.kill(os.getpid(), 11)), end(lambda *_: os._exit(3))]
print(*kinds, sep=",")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().split(",") == [
        "handled", "clear error", "clear error", "traceback", "traceback", "traceback", "hang", "died", "died"
    ]  # fmt: skip
