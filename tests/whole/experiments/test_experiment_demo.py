"""launch/experiment_demo.sh as a user starts it: on the real sample, killed half-way, interrupted, and gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guidance.results.plan_file import read_plan

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT.parent / "shared/data/waterbirds100"
SCRIPT = ROOT / "launch/experiment_demo.sh"
MINUTES = 40  # on two cores that have nothing else to do


def start(runs: Path, *arguments: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it."""
    bin_folder = str(Path(sys.executable).parent)
    environment = {k: v for k, v in os.environ.items() if k != "WATERBIRDS"} | {
        "VIRTUAL_ENV": sys.prefix, "PATH": f"{bin_folder}:{os.environ['PATH']}", "RUNS": str(runs),
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments], env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no data are named"), (["/nowhere"], "there is no folder /nowhere"), ([str(ROOT)], "holds no Waterbirds")],
)
def test_without_data_it_says_what_it_needs(arguments: list[str], message: str, tmp_path: Path) -> None:
    process = start(tmp_path / "runs", *arguments)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message in printed
    assert "WATERBIRDS" in printed
    assert not (tmp_path / "runs").exists()


def finished(experiment: Path) -> dict[str, int]:
    """When each run that is finished was, by its name."""
    places = (experiment / "logs").glob("*/*.json")
    return {
        f"{place.parent.name}/{place.stem}": place.stat().st_mtime_ns
        for place in places
        if json.loads(place.read_text())["kind"] == "finished"
    }


def stop_when(process: subprocess.Popen[str], condition: Callable[[], bool], number: int) -> str:
    """Send a signal to all of the group as soon as the condition holds; what the script printed."""
    end = time.monotonic() + MINUTES * 60
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)
    os.killpg(process.pid, number)
    return process.communicate(timeout=300)[0]


@pytest.mark.long
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample is not at ../shared/data/waterbirds100")
def test_killed_half_way_and_interrupted_it_goes_on_to_the_end(tmp_path: Path) -> None:
    experiment = tmp_path / "experiment_demo"
    begin = time.monotonic()
    first = start(tmp_path, str(SAMPLE))
    stop_when(first, lambda: len(finished(experiment)) >= 21, signal.SIGKILL)
    killed = finished(experiment)
    second = start(tmp_path, str(SAMPLE))
    told = stop_when(second, lambda: len(finished(experiment)) >= 30, signal.SIGINT)
    assert second.returncode == 130
    assert "interrupted; nothing is lost" in told
    interrupted = finished(experiment)
    assert {name: interrupted[name] for name in killed} == killed
    third = start(tmp_path, str(SAMPLE))
    printed, _ = third.communicate(timeout=MINUTES * 60)
    assert third.returncode == 0, printed
    assert time.monotonic() - begin < MINUTES * 60
    plan, at_end = read_plan(experiment), finished(experiment)
    assert set(at_end) == {run.name for run in plan.runs}
    assert {name: at_end[name] for name in interrupted} == interrupted  # none was trained again
    assert [len(plan.of(group)) for group in ("baseline", "energy", "l1", "ppce", "rrr")] == [3, 9, 9, 9, 9]
    for run in plan.runs:
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        epochs = [line["epoch"] for line in lines if "epoch" in line]
        assert epochs == list(range(1, len(epochs) + 1))  # none twice
        assert list((run.folder / "results").glob("*.test.*.json"))
    with open(experiment / "fronts.csv", encoding="utf-8") as file:
        on_front = [row for row in csv.DictReader(file) if row["front_val"] == "True"]
    for group in ("energy", "l1", "ppce", "rrr"):
        assert sum(row["group"] == group for row in on_front) > 1
    assert (experiment / "fronts_test.png").stat().st_size > 10_000
    claims = {row["claim"]: row for row in json.loads((experiment / "claims.json").read_text())}
    assert all(claims[name]["verdict"] != "not run" for name in ("R1", "R2"))
