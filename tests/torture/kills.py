"""Cases of kills: a run whose processes are killed at random moments, and that goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from guidance.data import generate_demo
from tests.support.runs import assert_same, snapshot
from tests.torture.mutations import BrokenPromiseError

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.num_train=40", "data.num_val=18", "data.num_test=18", "data.image_size=32", "data.correlation=0.97",
    "data.signs=shapes",
    "trainer.epochs=3", "trainer.batch_size=8", "trainer.checkpoint_every=2", "log.every=1",
    "log.probe_images=1", "trainer.device=cpu",
]  # fmt: skip
BCOS = ["model.name=bcos_resnet18", "objective.attribution.method=bcos", "objective.attribution.depth=mid2"]
# config, processes, workers, more settings
SCENARIOS: list[tuple[str, int, int, tuple[str, ...]]] = [
    ("demo", 1, 0, ()), ("demo", 1, 2, ()), ("demo", 2, 1, ()), ("demo_aim", 1, 0, ()), ("demo_aim", 2, 0, ()),
    ("demo", 1, 0, tuple(BCOS)),
]  # fmt: skip
_WHOLE: dict[int, tuple[Path, float]] = {}  # scenario -> folder of an uninterrupted run, and its time


def _train(scenario: tuple[str, int, int, tuple[str, ...]], data: Path, output: Path) -> subprocess.Popen[bytes]:
    config, processes, workers, more = scenario
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*start, "launch/train.py", "--config", f"configs/{config}.yaml", "--output", str(output), "--resume", "--set",
               f"data.root={data}", *SMALL, f"data.num_workers={workers}", *more]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = open(output.with_suffix(".log"), "ab")  # noqa: SIM115 (the process keeps it)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def _whole(scenario: tuple[str, int, int, tuple[str, ...]]) -> tuple[Path, float]:
    number = SCENARIOS.index(scenario)
    if number not in _WHOLE:
        folder = Path(tempfile.mkdtemp())
        generate_demo(folder / "demo", num_train=40, num_val=18, num_test=18, image_size=32)
        start = time.monotonic()
        if _train(scenario, folder / "demo", folder / "run").wait() != 0:
            raise BrokenPromiseError((folder / "run.log").read_text())
        _WHOLE[number] = folder, time.monotonic() - start
    return _WHOLE[number]


def killed_run(random: Random, folder: Path) -> None:
    """A run whose processes are killed up to three times at random moments: all, one of them, or a worker."""
    scenario = random.choice(SCENARIOS)
    whole, seconds = _whole(scenario)
    for _ in range(random.randint(1, 3)):
        process = _train(scenario, whole / "demo", folder / "run")
        time.sleep(random.uniform(0.2, 1.05) * seconds)
        below = _below(process.pid)
        number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        victims = [process.pid, *below] if random.random() < 0.6 or not below else [random.choice(below)]
        for pid in victims:
            _kill(pid, number)
        if process.wait() not in (0, 1, 2, -signal.SIGKILL, -signal.SIGTERM):
            raise BrokenPromiseError((folder / "run.log").read_text())
        for pid in below:  # a torchrun that was killed leaves its processes behind
            _kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    if _train(scenario, whole / "demo", folder / "run").wait() != 0:
        raise BrokenPromiseError((folder / "run.log").read_text())
    own = re.sub(
        r"(?s)Traceback.*?torchrun|torch/distributed/(run|launcher|elastic).*", "", (folder / "run.log").read_text()
    )
    if re.search(r'File ".*guidance', own):
        raise BrokenPromiseError(f"a traceback of ours:\n{own}")
    assert_same(snapshot(folder / "run"), snapshot(whole / "run"))


def _below(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listing.splitlines())}
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def prepare() -> None:
    """Run, once, what the killed runs are compared with."""
    for scenario in SCENARIOS:
        _whole(scenario)
