"""Whatever happens to configs, data, checkpoints and processes ends in a clear error, or is handled; never otherwise.

    python -m tests.torture data --cases 500 --seed 3      # configs, data, checkpoints or kills

Each case runs in a process of its own, forked from this one, and its end is counted: "handled" (it went through), "clear error"
(a ValueError or an OSError with a short message, which the commands print), "traceback" (any other exception), "hang" (too
slow) and "died" (by a signal). Cases depend on the seed and their number alone; `--only N` repeats one and shows its end.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from guidance.models import BACKBONES, Backbone
from tests.support.runs import build_tiny
from tests.torture import checkpoints, configs, data, kills

GOOD = ("handled", "clear error")
BAD = ("traceback", "hang", "died")
LONGEST = 3000  # characters of a clear error


class End(NamedTuple):
    """How a case ended."""

    kind: str
    text: str


class Section(NamedTuple):
    """What the cases of a section do, how many seconds each may take, and what makes, once, what they start from."""

    case: Callable[[Random, Path], None]
    patience: float
    prepare: Callable[[], None] = lambda: None


SECTIONS: dict[str, Section] = {
    "configs": Section(configs.fuzzed_config, 60.0),
    "data": Section(data.fuzzed_data, 120.0),
    "checkpoints": Section(checkpoints.fuzzed_checkpoint, 120.0, checkpoints.prepare),
    "kills": Section(kills.killed_run, 900.0, kills.prepare),
}


def run_case(section: Section, random: Random) -> End:
    """Run a case in a forked process; it must not leave anything behind."""
    with tempfile.TemporaryDirectory() as folder:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.setpgrp()
            end = _in_child(section, random, Path(folder))
            with os.fdopen(writer, "w") as pipe:
                json.dump(end, pipe)
            os._exit(0)
        os.close(writer)
        text = _read(reader, time.monotonic() + section.patience)
        if text is None:
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if text is None:
        return End("hang", f"more than {section.patience:g} s")
    return End(*json.loads(text)) if text else End("died", f"wait status {status}")


def _read(reader: int, deadline: float) -> str | None:
    """What the child writes until it closes its end; None if that takes too long."""
    parts = []
    with os.fdopen(reader, "rb") as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(pipe.fileno(), 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)
    return None


def _in_child(section: Section, random: Random, folder: Path) -> End:
    if not os.environ.get("TORTURE_SHOW"):
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
    try:
        section.case(random, folder)
    except (ValueError, OSError) as error:
        # What other exceptions are, too: an error of ours is raised by us, and says something.
        text = str(error)
        if type(error).__name__ in ("UnicodeDecodeError", "UnicodeEncodeError", "JSONDecodeError") or not text.strip():
            return End("traceback", traceback.format_exc())
        return (
            End("clear error", text)
            if len(text) <= LONGEST
            else End("traceback", f"{len(text)} characters: {text[:500]}")
        )
    except BaseException:
        return End("traceback", traceback.format_exc())
    return End("handled", "")


def torture(section: str, cases: int, seed: int, *, only: int | None = None) -> tuple[Counter[str], list[str]]:
    """How `cases` of a section end, and the text of those that end badly."""
    counts: Counter[str] = Counter(dict.fromkeys(GOOD + BAD, 0))
    bad = []
    for number in range(cases) if only is None else [only]:
        end = run_case(SECTIONS[section], Random(f"{section}/{seed}/{number}"))
        counts[end.kind] += 1
        if end.kind in BAD or only is not None:
            bad.append(f"{section} {number} of seed {seed}: {end.kind}\n{end.text}")
    return counts, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N")
    args = parser.parse_args()
    bad = []
    torch.set_num_threads(1)  # a forked process must find no threads to miss
    BACKBONES["tiny"] = Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4)
    for section in args.sections:
        SECTIONS[section].prepare()
        counts, found = torture(section, args.cases, args.seed, only=args.only)
        bad += found
        print(section, json.dumps(counts), flush=True)
    print("\n\n".join(bad))
    return int(bool(bad) and args.only is None)


if __name__ == "__main__":
    sys.exit(main())
